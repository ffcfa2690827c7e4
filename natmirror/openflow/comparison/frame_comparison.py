"""The latest distinct frames that the switch has sent to its controller, walked through both sides' tables.

Rules may differ and still send all frames alike, such as those with another priority; or differ little and send most
frames elsewhere. For two different controllers this is the only fair comparison.
"""

from collections import OrderedDict

from natmirror.openflow.bodies.frames import Fields
from natmirror.openflow.comparison.causes import Cause
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.packed import PackedFrame
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.steps import Steps
from natmirror.openflow.tables.walk import walk

MAX_FRAMES = 64
_PER_WALK = 16
"""Frames that are walked at once; the next ones follow at the next time."""
_COST = 1500  # bytes that Python needs for a frame's fields
_Key = tuple[int, PackedFrame]
"""The table that the frame enters, and its fields."""


class Frames:
    """The latest distinct frames."""

    def __init__(self) -> None:
        self._frames: OrderedDict[_Key, Fields] = OrderedDict()

    def saw(self, cause: Cause) -> None:
        """Keep a PACKET_IN's frame."""
        key = (cause.packet_in.table, cause.there)
        self._frames[key] = cause.fields
        self._frames.move_to_end(key)
        if len(self._frames) > MAX_FRAMES:
            self._frames.popitem(last=False)

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return _COST * len(self._frames)

    @property
    def count(self) -> int:
        return len(self._frames)

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()

    def walk(self, production: ProductionModel, mirror: MirrorModel, now: float, start: int) -> Steps[tuple[int, int]]:
        """Walk some frames from the place ``start`` on. Return how many leave alike, and of how many that is known."""
        alike = count = 0
        frames = list(self._frames.items())
        start %= max(1, len(frames))
        for (table, packed), fields in (frames[start:] + frames[:start])[:_PER_WALK]:
            one = walk(production, fields, now, table=table, packed=packed)
            other = walk(mirror, fields, now, table=table, packed=packed)
            if one.unknown is None and other.unknown is None:
                count += 1
                alike += one.outputs == other.outputs
            yield
        return alike, count
