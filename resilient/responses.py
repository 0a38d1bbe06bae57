"""Bodies that are in memory already: given to the response where httpx would begin to read it.

httpx reads a body through four generators, a decoder and two chunkers, a seventh of the cost
of a small request; a body that is whole, and not compressed, comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from resilient.binding import Binding
from resilient.runtime.carried import BUFFER
from resilient.runtime.streams import streams

_CHANGED = {"_content", "_decoder", "_num_bytes_downloaded", "is_stream_consumed", "is_closed"}
"""What reading changes in a response, beside the time that has elapsed."""


@cache
def taking(binding: Binding) -> Callable[[Any, Any], bool]:
    """What takes bodies from memory into responses of a library, if it knows how they are kept.

    Some of it is private, so it first looks at what reading does in the version that is installed.
    """
    loaded = streams(binding).Loaded
    decoder = _identity(binding)

    def take(request: Any, response: Any) -> bool:
        """Leave a response as reading does, if it is to be read and its body is there.

        To be called where the library would read it: after the hooks, which find it unread. True
        if its stream is to be closed, which also tells the time that has elapsed.
        """
        stream = response.stream
        # Only if nobody has put a stream of their own around it, or has begun to read.
        if decoder is None or type(stream) not in binding.bound_streams or not request.extensions.get(BUFFER):
            return False
        body = getattr(stream, "_stream", None)
        if type(body) is not loaded or response.is_closed or response.is_stream_consumed:
            return False
        if hasattr(response, "_content") or "content-encoding" in response.headers:
            return False
        response._content = content = b"".join(body.chunks)  # noqa: SLF001
        response._decoder = decoder  # noqa: SLF001
        response._num_bytes_downloaded = len(content)  # noqa: SLF001
        response.is_stream_consumed = response.is_closed = True
        return True

    return take


def _identity(binding: Binding) -> Any:
    """The library's decoder of what is not encoded, which has no state; None if it reads in ways unknown to us."""
    response = binding.Response(200, stream=binding.ByteStream(b"x"))
    before = dict(vars(response))
    response.read()
    missing = object()
    after = {name: value for name, value in vars(response).items() if before.get(name, missing) != value}
    known = after.keys() == _CHANGED and not vars(after["_decoder"])
    return after["_decoder"] if known else None
