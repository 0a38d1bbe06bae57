"""Configuration as values, as plain data, and as files."""

from resilient.config.files import load
from resilient.config.schema import as_config
from resilient.config.values import MeshConfig

__all__ = ["MeshConfig", "as_config", "load"]
