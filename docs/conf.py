"""The settings of the site: `make docs` builds this folder for a browser, without a network.

The pages are read in the repository as well, so links are relative paths of files. Two things differ on the site: the
files beside this folder are included by the pages in `project`, and a row of a table in the reference has an anchor.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from natmirror import __version__

project = "natmirror"
author = "the natmirror authors"
copyright = author
version = release = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_title = "natmirror"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""The page that has the text of each file beside this folder."""

_LINK = re.compile(rf"\]\(((?:\.\./)*)({'|'.join(map(re.escape, PAGES))})(?=[)#])")


def link_to_pages(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Have a page's links to files beside this folder lead to the pages with their text."""
    source[0] = _LINK.sub(lambda found: f"]({found[1].removeprefix('../')}{PAGES[found[2]]}", source[0])


def move_links(_app: Sphinx, _path: Path, _page: str, source: list[str]) -> None:
    """Have the links of a file that a page in `project` includes be right there."""
    source[0] = _LINK.sub(lambda found: f"](../{PAGES[found[2]]}", source[0]).replace("](docs/", "](../")


class RowAnchors(SphinxTransform):
    """Gives each row of the reference an anchor: the section's, and what stands in its first cell."""

    default_priority = 800

    def apply(self, **_options: Any) -> None:
        """Name the rows whose first cell is a literal, such as a rules key or a metric."""
        if not self.env.docname.startswith("reference/"):
            return
        taken = set(self.document.ids)
        for row in self.document.findall(nodes.row):
            first = next(iter(row.findall(nodes.literal)), None)
            if first is None or first.parent.parent is not row[0]:
                continue
            section = row
            while not isinstance(section, nodes.section):
                section = section.parent
            name = f"{section.get('slug', section['ids'][0])}-{nodes.make_id(first.astext())}"
            if name not in taken:
                taken.add(name)
                row["ids"].append(name)
                first.parent += nodes.reference("", "¶", refid=name, classes=["headerlink"])


def setup(app: Sphinx) -> None:
    """Add what Sphinx calls while it reads the pages."""
    app.add_lexer("nft", TextLexer)
    app.add_transform(RowAnchors)
    app.connect("source-read", link_to_pages)
    app.connect("include-read", move_links)
