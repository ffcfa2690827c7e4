"""natmirror: a NAT and TCP mirror engine for load-balancer hosts.

The core does no I/O: an Engine decides on packets at a Hook, by the rules that load_rules() reads.
"""

TYPE_CHECKING = False  # type checkers assume True; importing it from typing would take time
if TYPE_CHECKING:
    from natmirror.actions import Hook
    from natmirror.engine.engine import Engine
    from natmirror.rules import load_rules

__all__ = ["Engine", "Hook", "load_rules"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a name of the core at its first use: ``natmirror health`` runs four times a second and needs none of
    it."""
    if name == "Engine":
        from natmirror.engine.engine import Engine

        return Engine
    if name == "Hook":
        from natmirror.actions import Hook

        return Hook
    if name == "load_rules":
        from natmirror.rules import load_rules

        return load_rules
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
