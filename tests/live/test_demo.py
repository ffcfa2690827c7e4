"""The demo, in short: its story, its page on this machine's loopback address, and its proof."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from natmirror.lab.process import wait_for
from natmirror.lab.topology import leftovers
from tests.live.scene import ROOT

pytestmark = [pytest.mark.live, pytest.mark.beside]

TIMEOUT = 60.0


def test_the_demo_ends_with_its_proof(tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = [sys.executable, "-m", "natmirror", "demo", "--seconds", "1", "--page"]
    with output.open("wb") as file:
        demo = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: "until Ctrl-C" in output.read_text() or demo.poll() is not None, "the story", TIMEOUT)
        found = re.search("The status page: (.*)", output.read_text())
        assert found is not None, output.read_text()
        assert "<title>natmirror</title>" in httpx.get(found[1], trust_env=False, timeout=TIMEOUT).text
        status = httpx.get(f"{found[1]}v1/status", trust_env=False, timeout=TIMEOUT).json()
        assert status["mirrors"][0]["name"] == "master"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(TIMEOUT) == 0, output.read_text()
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(TIMEOUT)
    lines = output.read_text().splitlines()
    proof = [line for line in lines if line.startswith(("yes", "NO"))]
    assert len(proof) == 9
    assert all(line.startswith("yes ") for line in proof)
    assert leftovers() == []
