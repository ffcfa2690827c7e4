"""What the operator wants to see: the order of legs, the filter, the pace."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from natmirror.api.values import closest, parse_client

INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""The seconds between two questions, from which + and - choose."""
_FILTERS = ("client", "service", "backend", "mirror", "state")


class Order(NamedTuple):
    """A column by which legs can be sorted: the field of the API, and the title of the column in the table."""

    field: str
    title: str
    is_descending: bool
    """Its first direction: the largest first where that is the worst."""


ORDERS = (
    Order("lag_seconds", "lag", is_descending=True),
    Order("retransmits", "resent", is_descending=True),
    Order("rtt_seconds", "rtt", is_descending=True),
    Order("acked_bytes", "mirrored", is_descending=True),
    Order("client", "client", is_descending=False),
    Order("backend", "backend", is_descending=False),
    Order("mirror", "mirror", is_descending=False),
    Order("state", "leg", is_descending=False),
)
_SMALLEST = 0.001  # seconds: the least lag that the API shows


@dataclass(slots=True)
class View:
    """What is shown. ``service`` is the only service that is shown, or None for all."""

    interval: float = 1.0
    service: str | None = None
    order: Order = ORDERS[0]
    is_descending: bool = True
    filter: dict[str, str] = field(default_factory=dict)
    is_paused: bool = False
    shows_help: bool = False
    message: str = ""
    """What the last key could not do, until the next one."""

    def sort_by_next(self, step: int) -> None:
        """Sort by the next column, or by the one before it."""
        self.order = ORDERS[(ORDERS.index(self.order) + step) % len(ORDERS)]
        self.is_descending = self.order.is_descending

    def change_interval(self, step: int) -> None:
        """Ask less or more often."""
        nearest = min(range(len(INTERVALS)), key=lambda at: abs(INTERVALS[at] - self.interval))
        self.interval = INTERVALS[min(max(nearest + step, 0), len(INTERVALS) - 1)]

    def question(self, limit: int) -> dict[str, Any]:
        """Return the parameters that ask for the legs that are shown. Where those that are behind longest come first,
        the others are left out: natmirror finds these few without a walk through all flows."""
        wanted: dict[str, Any] = {**self.filter, "limit": limit}
        if self.service is not None:
            wanted["service"] = self.service
        if self.shows_worst:
            wanted["lagging"] = _SMALLEST
        return wanted | {"sort": ("-" if self.is_descending else "") + self.order.field}

    @property
    def shows_worst(self) -> bool:
        """Whether only legs are shown that are behind, the worst first."""
        return self.order is ORDERS[0] and self.is_descending


def parse_filter(text: str, names: dict[str, set[str]]) -> dict[str, str]:
    """Return the parameters of the API for words such as ``10.10.0.7 backend=c1``. A word without a key is an address,
    a network, or one of ``names``, which are known for each key. ValueError where a word is none of these."""
    found: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            key, value = _key_of(word, names), word
        if key not in _FILTERS:
            raise ValueError(f"there is no {key:.30}: {closest(key, _FILTERS)}")
        if key == "client":
            _require_client(value)
        elif value not in names[key]:
            raise ValueError(f"there is no {key} {value:.50}: {closest(value, sorted(names[key]))}")
        found[key] = value
    return found


def _key_of(word: str, names: dict[str, set[str]]) -> str:
    if word[:1].isdigit():
        return "client"
    keys = [key for key in _FILTERS if word in names.get(key, ())]
    if not keys:
        known = sorted(name for some in names.values() for name in some)
        raise ValueError(f"there is no {word:.50}: {closest(word, known)}")
    if len(keys) > 1:
        raise ValueError(f"{word:.50} is a {' and a '.join(keys)}: write {keys[0]}={word:.50}")
    return keys[0]


def _require_client(text: str) -> None:
    """Raise ValueError, with what is expected, where text names no clients."""
    try:
        parse_client(text)
    except ValueError:
        raise ValueError(f"{text:.50} is no address, network, or address with a port") from None
