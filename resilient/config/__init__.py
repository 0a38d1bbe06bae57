"""Configuration as values, as plain data, and as files."""

from resilient.config.files import load
from resilient.config.values import MeshConfig, as_config

__all__ = ["MeshConfig", "as_config", "load"]
