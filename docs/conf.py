"""How `make site` builds these pages: Sphinx, with MyST for Markdown and the theme furo."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from pydb import __version__

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\n(?!\n))*\])\((?P<target>[^()#\s:]+)(?P<anchor>#[^()\s]*)?\)")

project = "tenant-ai-storage"
version = release = __version__
copyright = "the authors of tenant-ai-storage, Apache-2.0"

extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # a session's output is no code of its language

html_theme = "furo"
html_title = f"tenant-ai-storage {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def within_site(page: Path, text: str) -> str:
    """A page's text, whose links work in the repository, with links that work on the site.

    Of the files outside of docs the site has README.md alone, as its first page; the others keep their name, unlinked.
    A link that is called by its file's name gets the page's title instead.
    """

    def link(match: re.Match[str]) -> str:
        title = "[]" if match["text"].strip("[]").endswith(".md") else match["text"]
        target = (page.parent / match["target"]).resolve()
        if not target.exists():
            logging.getLogger(__name__).warning("nothing is at %s", match["target"], location=str(page))
        if target == ROOT / "README.md":
            return f"{title}(/index.md{match['anchor'] or ''})"
        if target.is_relative_to(DOCS):
            return f"{title}(/{target.relative_to(DOCS)}{match['anchor'] or ''})"
        return match["text"][1:-1]

    return LINK.sub(link, text)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    text = within_site(DOCS / f"{page}.md", source[0])
    if page == "index":
        readme = within_site(ROOT / "README.md", (ROOT / "README.md").read_text("utf-8"))
        text = text.replace("<!-- README.md -->", readme)
    source[0] = text


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
