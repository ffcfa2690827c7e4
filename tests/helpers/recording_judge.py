"""A judge that only notes what it gets to know, and works in as many steps as it has got messages."""

from collections.abc import Iterator
from typing import Any, ClassVar

from natmirror.openflow.comparison.results import Collector
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.state import Account


class RecordingJudge:
    """Has the methods of Judge. ``made`` has all that were made, ``broken`` names the method that raises."""

    made: ClassVar["list[RecordingJudge]"] = []
    broken = ""
    deadline: float | None = None

    def __init__(self, version: int, account: Account, now: float, *, is_picked_up: bool = False) -> None:
        self.account = account
        self.log: list[tuple[Any, ...]] = []
        self.steps: list[int] = []
        """The messages that were settled by each whole call of settle()."""
        self.held = 0
        self.gives_up = True
        self.collectors: dict[str, Collector] = {}
        self.models: dict[str, MirrorModel] = {}
        self.production = ProductionModel(version, account)
        self._waiting = 0
        self._note("made", version, is_picked_up)
        self.made.append(self)

    def _note(self, name: str, *what: Any) -> None:
        if name == self.broken:
            raise RuntimeError(f"broken: {name}")
        self.log.append((name, *what))

    def _message(self, name: str, message: Message, *what: Any) -> None:
        self._waiting += 1
        self._note(name, *what, message.name, message.xid)

    def joined(self, mirror: str, collector: Collector, now: float, *, warm_up: float, is_open: bool = False) -> None:
        self._note("joined", mirror, warm_up, *["open"] * is_open)
        self.collectors[mirror] = collector
        self.models[mirror] = MirrorModel(self.production.version, self.account, self.production)

    def ended(self, mirror: str, reason: str, now: float, *, is_fault: bool) -> None:
        self._note("ended", mirror, reason, is_fault)

    def removed(self, mirror: str, now: float) -> None:
        self._note("removed", mirror)

    def model_of(self, mirror: str) -> MirrorModel | None:
        self._note("model_of", mirror)
        return self.models.get(mirror)

    def from_switch(self, message: Message, now: float) -> None:
        self._message("from_switch", message)

    def from_controller(self, message: Message, now: float) -> None:
        self._message("from_controller", message)

    def missed(self, now: float) -> None:
        self._note("missed")

    def lost(self, now: float) -> None:
        self._note("lost")

    def told(self, mirror: str, message: Message, now: float) -> None:
        self._message("told", message, mirror)

    def withheld(self, mirror: str, message: Message, now: float, *, is_wanted: bool) -> None:
        self._message("withheld", message, mirror)

    def from_master(self, mirror: str, message: Message, now: float) -> None:
        self._message("from_master", message, mirror)

    def settle(self, now: float) -> Iterator[None]:
        self._note("settle")
        count, self._waiting = self._waiting, 0
        for _ in range(count):
            yield
        self.steps.append(count)

    def next_deadline(self) -> float | None:
        return self.deadline

    def give_up(self, now: float) -> None:
        self._note("give_up")
        if self.gives_up:
            self.held = 0

    def close(self, now: float) -> None:
        self._note("close")

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        """Return what was noted under these names."""
        return [one for one in self.log if one[0] in names]
