"""``python -m natmirror``."""

import sys

from natmirror.entry import main

sys.exit(main())
