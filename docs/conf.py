"""How the documents become a site: `make docs`."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "snapcore"
author = "the snapcore developers"
release = metadata.version("snapcore")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "reference",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"snapcore {release}"
# One pair of backticks in docstrings is code, as in Markdown.
default_role = "code"
# What `snapcore[service]` installs need not be here for its page.
autodoc_mock_imports = [] if find_spec("grpc") else ["grpc", "google", "snapcore.service.proto"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
myst_heading_anchors = 3
# Pages link to files outside of docs/ too, which are no pages; tests/test_docs.py checks them all.
suppress_warnings = ["myst.xref_missing"]
