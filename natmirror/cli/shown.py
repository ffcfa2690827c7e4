"""What commands print with --json that need no running natmirror, field by field: for the reference."""

from typing import TypedDict


class CheckedRules(TypedDict):
    """The rules in a file, which can be used."""

    path: str
    """The path of the file."""
    rules: list[str]
    """The rules with all defaults, line by line."""
    warnings: list[str]
    """What is likely a mistake."""


class KernelRules(TypedDict):
    """The kernel rules that a start would install."""

    nftables: str
    """The input of ``nft -f -``."""
    iptables: str
    """The input of ``iptables-restore --noflush``."""


class RemovedRules(TypedDict):
    """The kernel rules that were removed."""

    removed: list[str]
    """The names of chains and tables; empty if there were none."""


class HealthEntry(TypedDict):
    """Whether natmirror is fit to be the active host."""

    code: int
    """The exit code of the command."""
    meaning: str
    """What the code means."""
    reason: str
    """Why; empty if natmirror gives no reason."""


class ListedCheck(TypedDict):
    """One of doctor's checks."""

    name: str
    """The check's name."""
    section: str
    """The section that it belongs to."""
    title: str
    """What is so if the check finds nothing."""
