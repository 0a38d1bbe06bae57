"""Endpoints from a JSON or YAML file that is read again whenever it changes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from resilient.balance.endpoint import unique
from resilient.core import check
from resilient.discovery.entries import endpoint_of
from resilient.discovery.resolver import Endpoints, ResolutionFailed
from resilient.discovery.system import file_stamp

log = logging.getLogger("resilient.discovery")


class FileFault(Exception):
    """A file that cannot be read or understood."""


@check.setting
@dataclass(frozen=True)
class FileResolver:
    """The endpoints in a file: a list, or a mapping with the one key "endpoints".

    Each is an address ("10.0.0.1:80") or a mapping with host, port, weight, priority,
    locality and labels. Files whose names end in .yaml or .yml are YAML (extra
    `resilient-mesh[yaml]`), all others JSON. The file is checked every `poll_interval` seconds;
    write it under another name and rename it into place, so that it is never seen half
    written. While it is broken or missing, the last good endpoints stay in use and the log
    says so, once for each problem. An empty list is a set without endpoints, not a problem.
    """

    path: str
    poll_interval: check.Seconds = 1.0

    def __post_init__(self) -> None:
        check.instance("file.path", self.path, (str, os.PathLike), "the path of a file")
        object.__setattr__(self, "path", os.fspath(self.path))
        if not self.path:
            raise check.fault("file.path", self.path, "the path of a file")
        check.seconds("file.poll_interval", self.poll_interval)
        if is_yaml(self.path) and find_spec("yaml") is None:
            raise check.fault("file.path", self.path, "a JSON file, or pip install 'resilient-mesh[yaml]'")

    async def watch(self) -> AsyncIterator[Endpoints]:
        """The endpoints, initially and whenever the file has different ones.

        Raises ResolutionFailed only if there has never been a good file.
        """
        stamp = file_stamp(self.path)
        endpoints = self._first()
        yield endpoints
        problems: set[str] = set()
        while True:
            await asyncio.sleep(self.poll_interval)
            latest_stamp = file_stamp(self.path)
            # A problem may go away without changing the stamp: permissions, the disk.
            if latest_stamp == stamp and not problems:
                continue
            stamp = latest_stamp
            latest = self._again(problems)
            if latest is not None and latest != endpoints:
                endpoints = latest
                yield endpoints

    def _first(self) -> Endpoints:
        try:
            return read(self.path)
        except FileFault as fault:
            raise ResolutionFailed(str(fault), retry_after=self.poll_interval) from fault

    def _again(self, problems: set[str]) -> Endpoints | None:
        try:
            endpoints = read(self.path)
        except FileFault as fault:
            if str(fault) not in problems:
                problems.add(str(fault))
                log.warning("%s; the last good endpoints stay in use", fault)
            return None
        if problems:
            problems.clear()
            log.info("endpoint file %s is good again", self.path)
        return endpoints


def is_yaml(path: str) -> bool:
    """True if the name of a file says that it is YAML."""
    return path.endswith((".yaml", ".yml"))


def read(path: str) -> Endpoints:
    """The endpoints in a file; raises FileFault for whatever is wrong with it."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"), yaml=is_yaml(path))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFault(f"endpoint file {path}: {error}") from error


def parse(text: str, *, yaml: bool = False) -> Endpoints:
    """The endpoints in the text of a file; raises ValueError for whatever is wrong with it."""
    document = _load_yaml(text) if yaml else json.loads(text)
    if isinstance(document, Mapping):
        if unknown := [key for key in document if key != "endpoints"]:
            raise check.ConfigError(f"unknown field {unknown[0]!r}; expected endpoints")
        document = document.get("endpoints")
    if not isinstance(document, list):
        raise check.ConfigError('expected a list of endpoints, or {"endpoints": [...]}')
    return unique(endpoint_of(entry, f"endpoints[{index}]") for index, entry in enumerate(document))


def _load_yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


file = FileResolver
