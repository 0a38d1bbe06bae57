"""Call sites: a Policy around any function or block, HTTP or not.

A function is to the journey what a service is to a client: a service with one endpoint. So it
goes through the same steps in the same order; there is no second retry loop.
"""

from resilient.callsite.blocks import Blocks
from resilient.callsite.functions import bound_of, decorate

__all__ = ["Blocks", "bound_of", "decorate"]
