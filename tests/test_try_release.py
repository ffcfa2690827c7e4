"""``scripts/try-release``, ``try-unit`` and ``try-package`` refuse what they cannot try, before they make or mount
anything; ``build-deb`` says what it lacks."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def refused(
    directory: Path,
    *words: str,
    script: str = "try-release",
    user: int = 0,
    programs: tuple[str, ...] = ("debootstrap",),
) -> str:
    """The message with which it refuses; ``programs`` are those that the host has."""
    folder = directory / "bin"
    folder.mkdir()
    for name, text in {"id": f"echo {user}", **dict.fromkeys(programs, "echo made >&2")}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(directory)}
    command = ["sh", str(SCRIPTS / script), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30.0, check=False)
    assert done.returncode == 2
    assert list(directory.iterdir()) == [folder]
    return done.stderr


@pytest.mark.parametrize("words", [[], ["--help"], ["--keep"], ["--keep", "somewhere"], ["--wrong", "trixie"]])
def test_wrong_words_get_the_usage(tmp_path: Path, words: list[str]) -> None:
    assert refused(tmp_path, *words).startswith("try-release: usage: scripts/try-release ")


@pytest.mark.parametrize("words", [["trixie"], ["--keep"], ["--keep", "here", "there"]])
def test_wrong_words_for_the_unit_get_the_usage(tmp_path: Path, words: list[str]) -> None:
    assert refused(tmp_path, *words, script="try-unit") == "try-unit: usage: scripts/try-unit [--keep DIRECTORY]\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["--keep", "somewhere"], ["trixie", "bookworm"]])
def test_wrong_words_for_the_package_get_the_usage(tmp_path: Path, words: list[str]) -> None:
    assert refused(tmp_path, *words, script="try-package").startswith("try-package: usage: scripts/try-package ")


def test_a_build_says_what_is_missing_and_how_to_install_it(tmp_path: Path) -> None:
    for name, text in (
        ("dpkg-query", "echo installed"),
        (
            "dpkg-checkbuilddeps",
            "echo 'x: warning: no CC\nx: Unmet build dependencies: b:native (>= 3) a | c' >&2; exit 1",
        ),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "none")}
    command = ["sh", str(SCRIPTS / "build-deb")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30.0, check=False)
    remedy = "apt-get install --no-install-recommends a b"
    assert (done.returncode, done.stderr) == (2, f"build-deb: missing Debian packages: a b; run as root: {remedy}\n")


def test_it_needs_root(tmp_path: Path) -> None:
    assert "this needs root" in refused(tmp_path, "trixie", user=1000)


def test_a_release_that_debootstrap_does_not_know(tmp_path: Path) -> None:
    assert "debootstrap does not know the release no-such-release" in refused(tmp_path, "no-such-release")


def test_a_directory_with_other_files_in_it_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "bin"  # where the programs of this test are
    assert "is neither empty nor a root" in refused(tmp_path, "--keep", str(directory), "trixie")
