"""TLS contexts: built as the HTTP library builds them, but once for each setting.

A context with the public certificate authorities takes some 50 ms to build and as much
memory as a small program; with a pool per endpoint, each endpoint would cost that much.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resilient.binding import HTTPX
from resilient.core import forking

CertTypes = str | tuple[str, str] | tuple[str, str, str]
Factory = Callable[..., ssl.SSLContext]
Versions = tuple[tuple[int, int] | None, ...]
"""Modification time and inode of files: a replaced file counts as a different one."""

_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}
_building = threading.Lock()


def _after_fork() -> None:
    global _building  # noqa: PLW0603
    _building = threading.Lock()  # the parent's may have been held


forking.in_child(_after_fork)


def ssl_context(
    verify: ssl.SSLContext | str | bool = True,
    cert: CertTypes | None = None,
    trust_env: bool = True,
    *,
    http2: bool = False,
    create: Factory = HTTPX.create_ssl_context,
    versions: Versions = (),
) -> ssl.SSLContext:
    """The context for these settings, which mean what they mean to `create`; shared.

    Settings with and without `http2` have different contexts, because the protocols offered
    (ALPN) are a property of the context. So do different `versions` of the files that they
    name. A ready SSLContext is used as given. Raises what `create` raises: OSError for a file
    that cannot be read, ssl.SSLError for its contents.
    """
    if isinstance(verify, ssl.SSLContext):
        return create(verify=verify, cert=cert, trust_env=trust_env) if cert else verify
    key = (create, verify, cert, http2, trust_env, *_environment(trust_env), versions)
    with _building:
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = create(verify=verify, cert=cert, trust_env=trust_env)
    return context


def _environment(trust_env: bool) -> tuple[str | None, ...]:
    if not trust_env:
        return ()
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


def _versions(verify: object, cert: CertTypes | None) -> Versions:
    """When the files that the settings name were last changed."""
    paths = [verify] if isinstance(verify, str) else []
    if cert:
        paths += [cert] if isinstance(cert, str) else cert[:2]
    return tuple(_version(path) for path in paths)


def _version(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


@dataclass(frozen=True, slots=True)
class TLS:
    """How servers are verified and which certificate is shown to them, in httpx's terms.

    `verify`: True for the certificate authorities of the HTTP library, False for no
    verification, a path, or a ready SSLContext. `cert`: a path, `(cert, key)` or
    `(cert, key, password)`. `trust_env` lets SSL_CERT_FILE and SSL_CERT_DIR replace the
    authorities. The files that a setting names are read when it is created, so that a wrong
    path fails there, and a setting created later sees changes to them; the default is read at
    the first use of `context`.
    """

    verify: ssl.SSLContext | str | bool = True
    cert: CertTypes | None = None
    trust_env: bool = True
    create: Factory = HTTPX.create_ssl_context
    _versions: Versions = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.verify, ssl.SSLContext) and self.cert:
            ready = self.create(verify=self.verify, cert=self.cert, trust_env=self.trust_env)
            object.__setattr__(self, "verify", ready)
            object.__setattr__(self, "cert", None)
        elif isinstance(self.verify, str) or self.cert:
            object.__setattr__(self, "_versions", _versions(self.verify, self.cert))
            self.context()

    def context(self, *, http2: bool = False) -> ssl.SSLContext:
        """The shared SSLContext; see `ssl_context`."""
        return ssl_context(
            self.verify, self.cert, self.trust_env, http2=http2, create=self.create, versions=self._versions
        )
