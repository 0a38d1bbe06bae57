"""`python -m resilient` is the command `resilient`."""

import sys

from resilient.cli import main

sys.exit(main())
