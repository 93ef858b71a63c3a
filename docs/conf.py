"""Sphinx configuration: Markdown pages, warnings are errors (see scripts/check.py)."""

from importlib.metadata import version as installedVersion

project = "txgateway"
author = "The txgateway authors"
release = version = installedVersion("txgateway")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"txgateway {release}"
