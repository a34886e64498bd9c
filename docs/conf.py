"""The documentation: sphinx-build -q -E -W --keep-going docs site."""

project = "rnafm"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "rnafm"
exclude_patterns = ["images"]
