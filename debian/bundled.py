"""Print the package's copyright file: natmirror's licence, and those of the Python packages in its environment.

``bundled.py SITE-PACKAGES`` removes the files from there that it has printed: Debian has licences in one place.
"""

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

_NAMES = ("licen", "copying", "notice", "authors")
# Debian has these texts already: what each begins its terms with, and its file.
_COMMON = (
    ("GNU GENERAL PUBLIC LICENSE", "TERMS AND CONDITIONS FOR COPYING", "GPL-2"),
    ("Apache License", "TERMS AND CONDITIONS FOR USE", "Apache-2.0"),
)


def main() -> None:
    """Print natmirror's section, then the others by name."""
    found = sorted(distributions(path=[sys.argv[1]]), key=lambda one: (one.name != "natmirror", one.name.lower()))
    print("The files in /usr/lib/natmirror/lib are natmirror's and those of these Python packages from PyPI.\n")
    for one in found:
        print(section(one))
        for path in licence_files(one):
            path.unlink()


def section(one: Distribution) -> str:
    """Return a distribution's name, version and licence."""
    fields = one.metadata
    declared = [fields["License-Expression"], fields["License"]]
    declared += [value.rpartition(" :: ")[2] for value in fields.get_all("Classifier", []) if "License ::" in value]
    licence = next((value.strip() for value in declared if value and value.strip()), None)
    texts = [text(path) for path in licence_files(one)]
    if licence is None and not texts:
        raise SystemExit(f"{one.name} {one.version} says nothing of its licence: the package must not have it")
    title = f"{one.name} {one.version}: {(licence or 'see below').splitlines()[0]}"
    return "\n\n".join((f"{title}\n{'=' * len(title)}", *texts)) + "\n"


def text(path: Path) -> str:
    """Return a licence's text, or where Debian has it."""
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    for *words, name in _COMMON:
        if all(word in found for word in words):
            return f"The text of this licence is in /usr/share/common-licenses/{name}."
    return found


def licence_files(one: Distribution) -> list[Path]:
    """Return the files with a distribution's licence, among those of its metadata."""
    files = [Path(str(one.locate_file(path))) for path in one.files or () if ".dist-info" in str(path)]
    return [path for path in files if path.name.lower().startswith(_NAMES) and path.exists()]


main()
