"""Cookies that are looked for only where there are any.

For each response httpx builds the request and the response that the standard library's cookie
jar wants to see, which is a sixth of the cost of a small request; most services' responses set
no cookie, and then the jar finds nothing to do.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from resilient.binding import Binding


@cache
def cookie_store(binding: Binding) -> type[Any]:
    """The Cookies class of a library, skipping responses without `Set-Cookie`."""

    class Cookies(binding.Cookies):  # type: ignore[misc, name-defined]
        def extract_cookies(self, response: Any) -> None:
            """Take over the cookies that a response sets."""
            if "set-cookie" in response.headers:
                super().extract_cookies(response)

    return Cookies
