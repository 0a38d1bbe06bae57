"""`python -m benchmarks.faults` is `python benchmarks/faults/run.py`."""

from benchmarks.faults.run import main

main()
