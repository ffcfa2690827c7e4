"""Compares natmirror's models of production's tables with what the switches say, while they change."""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from natmirror.lab.openvswitch import OpenVSwitch

_LEEWAY = 0.25  # seconds within which a model has to have had the switch's rules
_KEPT = 5


@dataclass
class Truth:
    """Snapshots of switches' tables, and whether a model had the same rules at that time."""

    path: Path
    """The socket of listing.py."""
    equal: int = 0
    count: int = 0
    rules: int = 0
    """Rules in all snapshots."""
    different: list[str] = field(default_factory=list)
    """What the nearest model lacked or had more, for the first snapshots that differ."""

    def look(self, switches: Sequence[OpenVSwitch]) -> None:
        """Take a snapshot of each switch."""
        for switch in switches:
            with socket.socket(socket.AF_UNIX) as looking:
                looking.connect(str(self.path))
                listed = set(switch.flows())
                time.sleep(_LEEWAY)
                looking.shutdown(socket.SHUT_WR)
                with looking.makefile("rb") as answer:
                    states = [set(rules) for rules in json.load(answer)]
            self.count += 1
            self.rules += len(listed)
            if listed in states:
                self.equal += 1
            elif len(self.different) < _KEPT:
                nearest = min(states, key=lambda state: len(state ^ listed), default=set())
                words = [f"only the switch: {line}" for line in sorted(listed - nearest)]
                words += [f"only the model: {line}" for line in sorted(nearest - listed)]
                self.different.append(f"s{switch.number}: " + "; ".join(words))
