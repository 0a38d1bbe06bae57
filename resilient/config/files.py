"""Configuration files: YAML, TOML and JSON hold the same data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resilient.config.values import MeshConfig
from resilient.core import check


def load(path: Path) -> MeshConfig:
    """The configuration in a .yaml, .yml, .toml or .json file.

    Raises ConfigError with one line for each fault, after a line that names the file; and
    OSError if the file cannot be read. YAML needs the extra `resilient-mesh[yaml]`.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise check.fault("file", str(path), "a name that ends in " + ", ".join(_PARSERS))
    from resilient.config.schema import read  # imports everything that can be configured

    text = path.read_bytes()
    try:
        return read(parse(text))
    except check.ConfigError as error:
        raise check.ConfigError(f"{path}:\n{error}") from error.__cause__


def _yaml(text: bytes) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise check.ConfigError("YAML files need PyYAML: pip install 'resilient-mesh[yaml]'") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise check.ConfigError(f"not YAML: {error}") from error
    return {} if data is None else data  # a file of nothing but comments


def _toml(text: bytes) -> Any:
    import tomllib

    try:
        return tomllib.loads(text.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise check.ConfigError(f"not TOML: {error}") from error


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise check.ConfigError(f"not JSON: {error}") from error


_PARSERS: Mapping[str, Callable[[bytes], Any]] = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json}
