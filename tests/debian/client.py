"""A client with connections through the machine, which last over restarts and upgrades."""

from dataclasses import dataclass
from pathlib import Path

from natmirror.lab.process import Program, wait_for
from tests.live.scene import Records, Scene, assert_all_well

CONNECTIONS = 8


@dataclass
class Client:
    """A client whose connections last until end()."""

    scene: Scene
    program: Program
    records: Records
    until: Path
    answered: Path

    def end(self) -> None:
        """Close the connections; assert that each byte and each answer has come through."""
        self.until.touch()
        self.scene.finish(self.program)
        sent = assert_all_well(self.records, CONNECTIONS)
        wait_for(lambda: self.scene.at_backends().items() >= sent.items(), "the backends' records")

    def wait_for_answers(self) -> None:
        """Wait until each connection has had an answer to a request that it sends from now on."""
        before = self.answered.stat().st_mtime
        now = float(Path("/proc/uptime").read_text().split()[0])
        wait_for(
            lambda: self.answered.stat().st_mtime > before and float(self.answered.read_text()) > now + 0.1,
            "an answer on each connection",
            20.0,
        )
