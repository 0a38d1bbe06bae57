"""Sphinx builds the documentation: `sphinx-build -W docs site`."""

from resilient._version import __version__

project = "resilient"
author = project_copyright = "the resilient authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "resilient"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Docstrings are plain prose; a single backtick is code there, not a reference.
default_role = "code"
