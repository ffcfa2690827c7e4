"""Run natmirror with a mistake in it: python -m tests.live.apps.faulty MODULE:CLASS.METHOD PYTHON -m natmirror …

The method raises whenever it is called.
"""

import importlib
import sys

from natmirror.cli.entry import main


def _raise(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a deliberate mistake")


if __name__ == "__main__":
    module, _, path = sys.argv[1].partition(":")
    owner, _, name = path.partition(".")
    setattr(getattr(importlib.import_module(module), owner), name, _raise)
    sys.argv[:] = ["natmirror", *sys.argv[5:]]
    main()
