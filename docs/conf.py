"""The site made of README.md, docs/ and the other pages: `make docs` builds it into build/docs.

The repository's root is the source folder, so that the links between pages are the same here and on a forge.
"""

from notifier import __version__

project = "notifier"
author = "the notifier authors"
version = release = __version__
copyright = f"{author}, Apache-2.0"  # noqa: A001 - Sphinx wants it by this name

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "loadtest/README.md", "docs/**.md"]
exclude_patterns = ["build", "dist", "**/node_modules", ".venv", ".git"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = "notifier"
html_extra_path = ["site"]  # index.html, which leads to the page below docs/
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
# No page asks another host for anything: no fonts, scripts or pictures from elsewhere.
html_permalinks_icon = "#"
