"""A look: a pass over all flows of a gear, in slices, that tells whether backends answer; looks.h says how."""

from dataclasses import dataclass, fields

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import NO_FLOW
from natmirror.fastpath.rows import Array, GearRow
from natmirror.fastpath.sum_rows import ServiceLookRow, TallyRow

SEVERAL = 2
"""A tally's number of clients that stands for any number above one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Some flows of a service; ``clients``, ``backends``: the addresses of their clients and of their backends, up to
    SEVERAL; ``client``, ``backend``: one of them, or an empty address."""

    flows: int = 0
    clients: int = 0
    client: bytes = b""
    backends: int = 0
    backend: bytes = b""

    def __add__(self, other: "Tally") -> "Tally":
        """Return the flows of both, which have no client in common."""
        clients = min(self.clients + other.clients, SEVERAL)
        is_same = self.backend == other.backend
        backends = max(self.backends, other.backends) if is_same else min(self.backends + other.backends, SEVERAL)
        one = self.client or other.client, self.backend or other.backend
        return Tally(self.flows + other.flows, clients, one[0], backends, one[1])


@dataclass(frozen=True, slots=True)
class ServiceLook:
    """What the flows of a service show; nm_service_look in looks.h explains each field."""

    answered: int = 0
    answered_data: int = 0
    reached: int = 0
    reached_data: int = 0
    connected: int = 0
    connecting: int = 0
    asking: int = 0
    telling: int = 0
    tries: int = 0
    open: Tally = Tally()
    waiting: Tally = Tally()
    unreached: Tally = Tally()
    stuck: Tally = Tally()
    calling: Tally = Tally()
    greeted: Tally = Tally()
    unconnected: Tally = Tally()
    stuck_groups: int = 0
    passing_groups: int = 0

    def __add__(self, other: "ServiceLook") -> "ServiceLook":
        """Return what the flows of two threads show, which share no client."""
        return ServiceLook(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


class Look:
    """Look ``number``, counted from 1 on, at the flows of a gear with ``services`` services."""

    def __init__(self, gear: GearRow, number: int, services: int) -> None:
        self._gear = gear
        self._number = number
        self.services = services
        """The number of services, which a reload may change before the look ends."""
        self._found: Array[ServiceLookRow] = ffi.new("nm_service_look[]", services)

    def at(self, first: int, most: int, now: float) -> int | None:
        """Look at ``most`` flows from number ``first`` on. Return the number to continue with, or None at the end."""
        following = lib.nm_gear_look(self._gear, first, most, self._number, now, self._found, self.services)
        return None if following == NO_FLOW else following

    def of(self, service: int) -> ServiceLook:
        """Return what the flows of the service with this number show."""
        row = self._found[service]
        return ServiceLook(
            answered=row.answered,
            answered_data=row.answered_data,
            reached=row.reached,
            reached_data=row.reached_data,
            connected=row.connected,
            connecting=row.connecting,
            asking=row.asking,
            telling=row.telling,
            tries=row.tries,
            open=_tally(row.open),
            waiting=_tally(row.waiting),
            unreached=_tally(row.unreached),
            stuck=_tally(row.stuck),
            calling=_tally(row.calling),
            greeted=_tally(row.greeted),
            unconnected=_tally(row.unconnected),
            stuck_groups=row.stuck_groups,
            passing_groups=row.passing_groups,
        )


def _tally(row: TallyRow) -> Tally:
    if not row.flows:
        return Tally()
    return Tally(row.flows, row.clients, bytes(row.client[0:4]), row.backends, bytes(row.backend[0:4]))
