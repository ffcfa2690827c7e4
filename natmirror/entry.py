"""Where the command begins: what keepalived runs is answered before anything else is imported."""

import sys


def main() -> int | None:
    """``natmirror``; gives the exit code."""
    if sys.argv[1:2] in (["health"], ["role"]):
        from natmirror import asking

        return asking.main(sys.argv[1], sys.argv[2:])
    from natmirror import cli

    cli.main()
    return None
