"""The names that ``from natmirror import …`` offers."""

import subprocess
import sys
from pathlib import Path

import pytest

import natmirror
from natmirror import Engine, Hook, load_rules
from natmirror.actions import Accept
from tests.helpers.support import C1, CLIENT, SERVICE, packet

RULES = """
switches: [10.10.0.0/24]
services:
  - {name: openflow, address: 10.10.0.100, port: 6653, pool: {backends: [{name: c1, address: 10.20.0.11}]}}
"""


def test_a_packet_needs_only_rules_an_engine_and_a_hook(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    engine = Engine(load_rules(file), key=bytes(16))
    decision = engine.receive(packet(CLIENT, SERVICE, "S", 1), Hook.PREROUTING, 1000.0)
    assert decision.verdict == Accept(packet(CLIENT, C1, "S", 1))
    assert decision.sends == []


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Leg'"):
        _ = natmirror.Leg


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, natmirror; print(*sorted(name for name in sys.modules if name.startswith('natmirror')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["natmirror"]
