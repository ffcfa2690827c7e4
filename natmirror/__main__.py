"""``python -m natmirror``."""

import sys

from natmirror.cli.entry import main

sys.exit(main())
