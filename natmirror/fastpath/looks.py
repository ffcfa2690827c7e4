"""A look: a pass over all flows of a gear, in slices, that tells whether backends answer; looks.h says how."""

from dataclasses import dataclass

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import NO_FLOW
from natmirror.fastpath.rows import Array, GearRow
from natmirror.fastpath.sum_rows import ServiceLookRow, TallyRow

SEVERAL = 2
"""A tally's number of clients that stands for any number above one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Some flows of a service; ``clients``: the addresses of their clients, up to SEVERAL; ``client``: one of them, or
    an empty address."""

    flows: int = 0
    clients: int = 0
    client: bytes = b""

    def __add__(self, other: "Tally") -> "Tally":
        """Return the flows of both, which have no client in common."""
        clients = min(self.clients + other.clients, SEVERAL)
        return Tally(self.flows + other.flows, clients, self.client or other.client)


@dataclass(frozen=True, slots=True)
class ServiceLook:
    """What the flows of a service show; nm_service_look in looks.h explains each field."""

    answered: int = 0
    reached: int = 0
    asking: int = 0
    tries: int = 0
    open: Tally = Tally()
    waiting: Tally = Tally()
    unreached: Tally = Tally()
    calling: Tally = Tally()
    greeted: Tally = Tally()

    def __add__(self, other: "ServiceLook") -> "ServiceLook":
        """Return what the flows of two threads show, which share no client."""
        return ServiceLook(
            self.answered + other.answered,
            self.reached + other.reached,
            self.asking + other.asking,
            self.tries + other.tries,
            self.open + other.open,
            self.waiting + other.waiting,
            self.unreached + other.unreached,
            self.calling + other.calling,
            self.greeted + other.greeted,
        )


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
        tallies = (row.open, row.waiting, row.unreached, row.calling, row.greeted)
        return ServiceLook(row.answered, row.reached, row.asking, row.tries, *map(_tally, tallies))


def _tally(row: TallyRow) -> Tally:
    return Tally(row.flows, row.clients, bytes(row.client[0:4]) if row.clients else b"")
