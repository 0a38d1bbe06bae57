"""The wire: the connections to one endpoint, with its address pinned below the logical URL.

Host, SNI, certificate verification, cookies and redirects see the URL that the caller wrote;
only the socket knows the endpoint.
"""

from resilient.runtime.wire.deadline import attempt_deadline
from resilient.runtime.wire.faults import TIMEOUTS
from resilient.runtime.wire.settings import WireSettings
from resilient.runtime.wire.wire import RESENT, AsyncWire, Wire

__all__ = ["RESENT", "TIMEOUTS", "AsyncWire", "Wire", "WireSettings", "attempt_deadline"]
