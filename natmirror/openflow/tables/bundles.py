"""The bundles that a controller has open: orders that a switch does together, at their commit (1.4.1 §6.8)."""

from dataclasses import dataclass, field

from natmirror.openflow.bodies.values import Body, BundleAdd, BundleControl
from natmirror.openflow.tables.state import Account

ORDER_COST = 900
"""Bytes that Python needs for an order that is kept, of an ordinary length."""
_ORDINARY_LEN, _COST_OF_BYTE = 200, 8  # each byte of a message beyond, mostly of actions, needs so many when decoded


def cost_of_length(length: int) -> int:
    """Return the bytes that Python needs for the rest of an order whose message has more than an ordinary length."""
    return _COST_OF_BYTE * max(0, length - _ORDINARY_LEN)


_OPEN, _COMMIT, _DISCARD = 0, 4, 6  # OFPBCT_*_REQUEST; a closed bundle changes nothing yet
_MAX_BUNDLES = 16
_MAX_ORDERS = 1024  # orders of one bundle


Order = tuple[int, Body]
"""An order with its transaction id."""


@dataclass(slots=True)
class Bundle:
    """The orders of one bundle."""

    opened_by: int
    """The transaction id of its first message."""
    orders: list[Order] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    """The bytes of memory of each order."""
    is_whole: bool = True
    """Whether all its orders are kept."""


class Bundles:
    """The open bundles of one controller, by their numbers."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._open: dict[int, Bundle] = {}

    def add(self, body: BundleAdd, xid: int, length: int) -> None:
        """Add an order, whose message has ``length`` bytes, to a bundle; open the bundle if it is new."""
        bundle = self._opened(body.bundle_id, xid)
        cost = ORDER_COST + cost_of_length(length)
        if len(bundle.orders) < _MAX_ORDERS and self._account.take(cost):
            bundle.orders.append((xid, body.body))
            bundle.costs.append(cost)
        else:
            bundle.is_whole = False

    def _opened(self, bundle_id: int, xid: int) -> Bundle:
        if bundle_id not in self._open:
            if len(self._open) >= _MAX_BUNDLES:
                self._drop(next(iter(self._open)))
            self._open[bundle_id] = Bundle(xid)
        return self._open[bundle_id]

    def control(self, body: BundleControl, xid: int) -> Bundle | None:
        """Open, close, commit or discard a bundle. Return the bundle to commit; None for anything else."""
        if body.kind == _OPEN:
            self._opened(body.bundle_id, xid)
        elif body.kind == _DISCARD:
            self._drop(body.bundle_id)
        elif body.kind == _COMMIT:
            return self._drop(body.bundle_id)
        return None

    def refuse(self, xid: int) -> bool:
        """Take out an order, or a bundle, that the switch refused. Return False if it is in no bundle."""
        for bundle_id, bundle in self._open.items():
            at = next((at for at, (one, _) in enumerate(bundle.orders) if one == xid), None)
            if at is not None:
                del bundle.orders[at]
                self._account.give(bundle.costs.pop(at))
                return True
            if bundle.opened_by == xid:
                self._drop(bundle_id)
                return True
        return False

    def clear(self) -> None:
        """Forget all bundles."""
        for bundle_id in list(self._open):
            self._drop(bundle_id)

    def _drop(self, bundle_id: int) -> Bundle | None:
        bundle = self._open.pop(bundle_id, None)
        if bundle is not None:
            self._account.give(sum(bundle.costs))
        return bundle
