"""``make pictures``: take the pictures of the site's pages that the documents show, with Debian's Chromium."""

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SITE = FOLDER.parent / "build" / "docs"
WIDE, PHONE = (1280, 900), (390, 844)
PICTURES = {
    "front": ("index.html", WIDE, False),
    "front-dark": ("index.html", WIDE, True),
    "tutorial": ("tutorial/first-mirror.html", WIDE, False),
    "tutorial-phone": ("tutorial/first-mirror.html", PHONE, False),
    "reference": ("reference/rules.html", WIDE, False),
    "reference-phone-dark": ("reference/metrics.html", PHONE, True),
}
"""The page of each picture, the size of its window, and whether the reader prefers dark colours."""
NARROWEST = 500
"""Chromium makes no narrower window, so a page for a phone is in a frame in the middle of one."""


def take(name: str, folder: Path) -> None:
    """Take one picture."""
    page, (width, height), is_dark = PICTURES[name]
    frame = folder / f"{name}.html"
    frame.write_text(
        f'<body style="margin:0;text-align:center;background:#888"><iframe src="{SITE.as_uri()}/{page}" '
        f'width="{width}" height="{height}" style="border:0"></iframe>',
        encoding="utf-8",
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / name}"]
    options += [f"--window-size={max(width, NARROWEST)},{height}", "--virtual-time-budget=3000"]
    options += [f"--screenshot={FOLDER}/pictures/site-{name}.png", *(["--force-dark-mode"] if is_dark else [])]
    subprocess.run(["chromium", *options, frame.as_uri()], check=True, timeout=60, stderr=subprocess.DEVNULL)


def main() -> None:
    """Take the pictures that the arguments name, or all."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or PICTURES:
            take(name, Path(folder))


main()
