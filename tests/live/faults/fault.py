"""A fault, and what it may cost."""

from dataclasses import dataclass
from enum import StrEnum


class Loss(StrEnum):
    """What production may lose as long as a fault lasts. Once it has ended, nothing."""

    NOTHING = "nothing"
    """Each request is answered within a second, and each new connection too."""
    TIME = "time"
    """Requests wait, and new connections fail; no connection that was open ends."""
    CONNECTIONS = "connections"
    """Open connections end too."""


@dataclass(frozen=True)
class Fault:
    """Shell commands on a host that plant a fault and remove it, the findings to expect, and a part of the remedy of
    one of them. ``repairs`` names what natmirror itself repairs; then ``undo`` only removes what is left. ``blames``
    names the backends that may be called down meanwhile. ``fix`` is the command by which natmirror doctor mends it, if
    that is safe. ``settles`` is the time in seconds after its end in which its effects are still its own. With
    ``keeps_copies`` no copy loses a byte. The last of the codes ``becomes`` another one if production's packets show
    that it has stopped; which of them is seen first is a question of time. With ``silences_mirror`` the mirror is no
    second target until it has been asked again: were the network to fail before, the backends would be blamed. With
    ``ends_verdicts`` masters are compared again soon, while the finding stays for ten minutes."""

    name: str
    codes: tuple[str, ...]
    plant: str
    undo: str
    remedy: str
    host: str = "lb"
    stops_production: bool = False
    loses: Loss = Loss.NOTHING
    repairs: str = ""
    blames: tuple[str, ...] = ()
    fix: str = ""
    settles: float = 0.5
    keeps_copies: bool = False
    becomes: str = ""
    silences_mirror: bool = False
    ends_verdicts: bool = False

    def is_named_by(self, found: set[str]) -> bool:
        """Return whether these codes are all that is expected."""
        return found >= {*self.codes[:-1]} and bool(found & {self.codes[-1], self.becomes})

    def possible_codes(self) -> set[str]:
        """Return each code by which the fault may be named."""
        return {*self.codes, self.becomes} - {""}
