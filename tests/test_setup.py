"""``scripts/setup`` with fake programs that log how they are called: what it installs, what it makes again and when."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# As Debian's: the environment's python is a link to the system's, whose packages lie in a folder of its version.
PYTHON = """#!/bin/sh
echo "$*" >>{calls}
version=$(cat {version})
case $* in
"-m venv .venv") mkdir -p .venv/bin .venv/lib/$version && ln -s {python} .venv/bin/python ;;
"-c import pip"*) [ -e .venv/lib/$version ] && echo $version ;;
esac
"""
DPKG = """#!/bin/sh
case $0 in
*/dpkg) echo {architecture} ;;
*) [ "$4" = {missing} ] || echo installed ;;
esac
"""


class Checkout:
    """A folder with ``scripts/setup`` and little else, and a system with one Python."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "checkout"
        self._programs = directory / "bin"
        self._calls, self._version = directory / "calls", directory / "version"
        for folder in (self._programs, self.place / "scripts", self.place / "natmirror/linux"):
            folder.mkdir(parents=True)
        for name in ("scripts/setup", "pyproject.toml", "setup.py"):
            (self.place / name).write_bytes((ROOT / name).read_bytes())
        for name in ("_fastpath_build.py", "_fastpath.c", "linux/loop.c", "_ffi.abi3.so"):
            (self.place / "natmirror" / name).touch()
        python = self._programs / "python3"
        self._program("python3", PYTHON.format(calls=self._calls, version=self._version, python=python))
        self.upgrade("cpython-311")
        self.has_packages()
        self._program("id", "#!/bin/sh\necho 1000\n")

    def _program(self, name: str, text: str) -> None:
        (self._programs / name).write_text(text)
        (self._programs / name).chmod(0o755)

    def upgrade(self, version: str) -> None:
        """The system's Python is another one."""
        self._version.write_text(version)

    def has_packages(self, *, missing: str = "none", architecture: str = "amd64") -> None:
        for name in ("dpkg", "dpkg-query"):
            self._program(name, DPKG.format(missing=missing, architecture=architecture))

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """As an ordinary user, whom it lets install nothing."""
        environment = {"PATH": f"{self._programs}:{os.environ['PATH']}"}
        command = ["sh", str(self.place / "scripts/setup"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30.0, check=False)

    def calls(self, *words: str) -> list[str]:
        """How Python was called in a run of the script that succeeds; questions to it left out."""
        self._calls.write_text("")
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return [line for line in self._calls.read_text().splitlines() if line.startswith(("-m", "setup.py"))]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def makes(calls: list[str]) -> bool:
    return "-m venv .venv" in calls and any(" pip install " in f" {call} " for call in calls)


def test_the_environment_is_made_once(checkout: Checkout) -> None:
    assert makes(checkout.calls())
    assert checkout.calls() == []


def test_the_environment_is_made_again_after_an_upgrade_of_the_system(checkout: Checkout) -> None:
    checkout.calls()
    checkout.upgrade("cpython-313")
    assert makes(checkout.calls())
    assert checkout.calls() == []
    # Even where the new Python finds a pip: the environment has none of the other packages for it.
    checkout.upgrade("cpython-314")
    (checkout.place / ".venv/lib/cpython-314").mkdir()
    assert makes(checkout.calls())


def test_the_environment_is_made_again_elsewhere(checkout: Checkout) -> None:
    checkout.calls()
    checkout.place = checkout.place.rename(checkout.place.with_name("moved"))
    assert makes(checkout.calls())


def test_what_it_lacks_is_named_to_an_ordinary_user(checkout: Checkout) -> None:
    checkout.has_packages(missing="libnetfilter-queue-dev")
    done = checkout.run()
    assert done.returncode == 1
    assert "missing Debian packages: libnetfilter-queue-dev" in done.stderr


def test_pcapy_is_built_only_where_pypi_has_no_wheel_of_it(checkout: Checkout) -> None:
    checkout.has_packages(missing="libpcap-dev")
    assert makes(checkout.calls())
    checkout.has_packages(missing="libpcap-dev", architecture="riscv64")
    assert "libpcap-dev" in checkout.run().stderr


def test_packages_for_the_fuzzer_have_the_same_name_in_each_release(checkout: Checkout) -> None:
    checkout.has_packages(missing="libclang-rt-dev")
    assert "libclang-rt-dev" in checkout.run("--fuzz").stderr
    assert checkout.run().returncode == 0
