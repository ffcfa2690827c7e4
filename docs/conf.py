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


class ReferenceTables(SphinxTransform):
    """Gives each row of the reference an anchor, and each cell the name of its column as a class.

    The anchor is the section's, and what stands in the first cell: ``reference/rules.html#services-port``. On a phone
    the style sheet shows the cells below each other, with the names of their columns.
    """

    default_priority = 800

    def apply(self, **_options: Any) -> None:
        """Go through the tables of a page of the reference."""
        if not self.env.docname.startswith("reference/"):
            return
        taken = set(self.document.ids)
        for table in self.document.findall(nodes.table):
            (heads,) = table.findall(nodes.thead)
            names = [f"column-{nodes.make_id(head.astext())}" for head in heads.findall(nodes.entry)]
            for body in table.findall(nodes.tbody):
                for row in body.findall(nodes.row):
                    for cell, name in zip(row, names, strict=True):
                        cell["classes"].append(name)
                    _give_anchor(row, taken)


def _give_anchor(row: nodes.row, taken: set[str]) -> None:
    """Give a row whose first cell begins with a literal, such as a rules key, its anchor and a link to that."""
    first = next(iter(row[0].findall(nodes.literal)), None)
    if first is None:
        return
    section = row
    while not isinstance(section, nodes.section):
        section = section.parent
    name = f"{section.get('slug', section['ids'][0])}-{nodes.make_id(first.astext())}"
    if name not in taken:
        taken.add(name)
        row["ids"].append(name)
        first.parent += nodes.reference("", "¶", refid=name, classes=["headerlink"])


def note_words(app: Sphinx, doctree: nodes.document) -> None:
    """Let links lead to the words of the glossary, which have anchors of their own."""
    known = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(nodes.raw):
        known.update({name: (0, name, name) for name in re.findall(r'<a id="([^"]+)">', node.astext())})


def setup(app: Sphinx) -> None:
    """Add what Sphinx calls while it reads the pages."""
    app.add_lexer("nft", TextLexer)
    app.add_transform(ReferenceTables)
    app.connect("source-read", link_to_pages)
    app.connect("include-read", move_links)
    app.connect("doctree-read", note_words)
