"""Host names: their ASCII form, `localhost`, and the names that a search list yields. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from resilient.core import check

_MAX_NAME = 253
_MAX_LABEL = 63
"""Octets, RFC 1035 section 2.3.4."""

_NOT_IN_NAMES = "/\\:@?#[]%"


def is_localhost(name: str) -> bool:
    """True for `localhost` and the names below it, known without a nameserver (RFC 6761 section 6.3)."""
    name = name.rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def ascii_name(field: str, name: str) -> str:
    """A host name in lower case and ASCII ("xn--", IDNA 2008); a final dot is kept.

    Raises ConfigError, naming `field`, for what cannot be a name.
    """
    check.instance(field, name, str, "the name of a host")
    labels = [_ascii_label(field, name, label) for label in name.removesuffix(".").split(".")]
    text = ".".join(labels)
    if len(text) > _MAX_NAME or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise check.fault(field, name, "labels of 1 to 63 characters, 253 in all")
    return text + "." if name.endswith(".") else text


def _ascii_label(field: str, name: str, label: str) -> str:
    if label.isascii():
        if any(character.isspace() or character in _NOT_IN_NAMES for character in label):
            raise check.fault(field, name, f"the name of a host, without spaces and {_NOT_IN_NAMES}")
        return label.lower()
    import idna

    try:
        return idna.encode(label, uts46=True).decode()
    except idna.IDNAError as error:
        raise check.fault(field, name, f"a name that IDNA allows ({error})") from None


def candidates(name: str, search: Sequence[str], ndots: int) -> tuple[str, ...]:
    """The absolute names to ask for, in order (resolv.conf(5)).

    A name with at least `ndots` dots is tried as it is first, one with fewer dots last. A
    name with a final dot is never extended.
    """
    if name.endswith("."):
        return (name,)
    absolute = f"{name}."
    extended = tuple(f"{name}.{domain.strip('.')}." for domain in search if domain.strip("."))
    return (absolute, *extended) if name.count(".") >= ndots else (*extended, absolute)
