"""``python -m natmirror``."""

from natmirror.cli import main

main()
