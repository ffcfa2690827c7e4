"""The entry point of ``natmirror``: it runs the commands that keepalived calls before it imports the others."""

import sys


def main() -> int | None:
    """Run ``natmirror``; return the exit code."""
    if sys.argv[1:2] in (["health"], ["role"]):
        from natmirror.ha import keepalived_hooks

        return keepalived_hooks.main(sys.argv[1], sys.argv[2:])
    from natmirror.cli import commands

    commands.main()
    return None
