"""What a request is about, roughly: so that one bad route is not held against its endpoint."""

from __future__ import annotations

from sys import intern

_SEGMENTS = 4  # of a path; what is deeper rarely has a handler of its own
_LONGEST = 24  # characters of a segment that may be a name; longer ones are identifiers


def route_group(method: str, path: str) -> str:
    """`GET /v1/orders/*` for `/v1/orders/4711?full=1`: requests that the same code answers.

    Segments that contain a digit, except a version such as `v1`, and long ones are taken for
    identifiers. A guess is enough: it decides whether failures are confined to a route, and which latencies
    a hedge goes by.
    """
    segments = path.partition("?")[0].split("/")[1 : _SEGMENTS + 1]
    name = "/".join("*" if _is_identifier(segment) else segment for segment in segments)
    return intern(f"{method} /{name}")  # every endpoint of a service keeps it


def _is_identifier(segment: str) -> bool:
    if len(segment) > _LONGEST:
        return True
    if segment[:1] == "v" and segment[1:].isdigit():
        return False
    return any(character.isdigit() for character in segment)
