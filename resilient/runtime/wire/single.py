"""HTTP/1.1 connections of httpcore that end with a response that was followed by more.

httpcore2 2.16 keeps what came behind a response and takes it for the answer to the next
request: whoever can make a server answer twice chooses what somebody else is told.
"""

from __future__ import annotations

from httpcore2 import AsyncHTTP11Connection, HTTP11Connection


class Single(HTTP11Connection):
    """The blocking connection."""

    def _response_closed(self) -> None:
        surplus, _ = self._h11_state.trailing_data
        if surplus:
            self.close()
        else:
            super()._response_closed()


class AsyncSingle(AsyncHTTP11Connection):
    """The asynchronous connection."""

    async def _response_closed(self) -> None:
        surplus, _ = self._h11_state.trailing_data
        if surplus:
            await self.aclose()
        else:
            await super()._response_closed()
