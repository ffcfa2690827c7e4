"""Runs Wireshark's programs over a capture."""

import subprocess
from pathlib import Path


def fields(path: Path, *names: str, only: str = "") -> list[tuple[str, ...]]:
    """Return fields of all packets, or of those that a display filter takes."""
    wanted = [word for name in names for word in ("-e", name)]
    argv = ["tshark", "-n", "-r", str(path), "-T", "fields", *wanted, *(("-Y", only) if only else ())]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


def malformed(path: Path) -> list[tuple[str, ...]]:
    """Return the packets that Wireshark calls malformed."""
    return fields(path, "frame.number", "frame.interface_name", "_ws.col.Info", only="_ws.malformed")


def info(path: Path) -> str:
    """Return what capinfos says of a file, interfaces included."""
    done = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
