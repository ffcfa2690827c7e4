"""What the lab's learning switches order, as values. A planted bug turns a list of them into another one."""

from dataclasses import dataclass

ANYTHING: tuple[()] = ()
"""The match of all frames."""


@dataclass(frozen=True, slots=True)
class Output:
    """Send the frame to a port; CONTROLLER and FLOOD have names."""

    port: int | str
    max_len: int | None = None


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Send the frame to a group."""

    group: int


@dataclass(frozen=True, slots=True)
class SetField:
    """Rewrite a field with an Ethernet address."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Give the frame a VLAN tag."""

    vlan: int


Actions = tuple[Output | ToGroup | SetField | Tag, ...]
Match = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Add a rule, or do with it what another command says."""

    priority: int
    match: Match
    actions: Actions
    idle_timeout: int = 0
    hard_timeout: int = 0
    reports_removal: bool = False
    table: int = 0
    command: str = "ADD"
    meter: int | None = None
    goto: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """Send the frame of the PACKET_IN."""

    actions: Actions


@dataclass(frozen=True, slots=True)
class Group:
    """Add an indirect group that sends to a port."""

    number: int
    port: int


@dataclass(frozen=True, slots=True)
class Meter:
    """Add a meter that drops what is more than so many kbit/s."""

    number: int
    rate: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Send what follows later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Give an order to another switch."""

    order: "Rule | Frame"


@dataclass(frozen=True, slots=True)
class Crash:
    """End the controller."""


Order = Rule | Frame | Group | Meter | Wait | Elsewhere | Crash


@dataclass(frozen=True, slots=True)
class Cause:
    """A PACKET_IN, and what a learning switch knows at that time."""

    number: int
    """It is the controller's n-th."""
    datapath: int
    in_port: int
    src: str
    dst: str
    eth_type: int
    port: int | None
    """The port behind which the destination is, if it is known."""
