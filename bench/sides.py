"""The two sides of a comparison: a commit or the work tree, each in a temporary tree with a build of its own.

All that is made for a comparison lies in one temporary directory, what its programs put into theirs too, and is gone at
its end, however that comes: ``TEMPORARY`` names it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

TEMPORARY = "natmirror-compare-"
REPOSITORY = Path(__file__).parents[1]
_GIT_TIMEOUT = 60.0
_BUILD_TIMEOUT = 1800.0
_END_TIMEOUT = 60.0  # for a benchmark to take its network namespaces down
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would lead one side to another's package


class ComparisonError(Exception):
    """Why two commits cannot be compared, in a line."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side; ``title`` is for people."""

    title: str
    tree: Path

    @property
    def python(self) -> str:
        """Its interpreter, which finds its package."""
        return str(self.tree / ".venv/bin/python")


def resolve(name: str, repository: Path) -> str:
    """Return the full id of a commit; ComparisonError where there is none of that name."""
    found = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if found.returncode:
        raise ComparisonError(f"no commit is called {name!r}" + (f": {_last(found.stderr)}" if found.stderr else ""))
    return found.stdout.strip()


def export(commit: str | None, tree: Path, repository: Path) -> Side:
    """Write a commit's files, or for None those of the work tree as they are, into ``tree``; not what git ignores."""
    tree.mkdir()
    if commit is None:
        title = _describe(resolve("HEAD", repository), repository)
        if _git(repository, "status", "--porcelain").stdout:
            title += ", with what is not committed"
        for name in _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0"):
            source = repository / name
            if name and (source.is_file() or source.is_symlink()):  # a file that was deleted is still in the index
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, tree / name, follow_symlinks=False)
        return Side(title, tree)
    archive = tree.with_suffix(".tar")
    _git(repository, "archive", "--format=tar", "--output", str(archive), commit)
    shutil.unpack_archive(archive, tree)
    archive.unlink()
    return Side(_describe(commit, repository), tree)


def build(side: Side, *, with_bench: bool) -> None:
    """Give a side its environment and its extension, as its own script does it."""
    if not (side.tree / "scripts/setup").exists():
        raise ComparisonError(f"{side.title} has no scripts/setup to build it with")
    words = ["sh", "scripts/setup", *(["--bench"] if with_bench else [])]
    try:
        run(words, side.tree, timeout=_BUILD_TIMEOUT)
    except ComparisonError as error:
        raise ComparisonError(f"{side.title} could not be built: {error}") from None


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory that is gone afterwards, also after Ctrl-C, SIGTERM and SIGHUP, which become KeyboardInterrupt."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in caught]
    directory = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    try:
        (directory / "tmp").mkdir()
        yield directory
    finally:
        for number in caught:  # a second Ctrl-C would leave the rest behind
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(directory)
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)


def run(words: Sequence[str], tree: Path, *, timeout: float) -> str:
    """Run a program in a side's tree and return what it prints; ComparisonError with its last line where it fails.

    It gets a process group of its own, which is interrupted as by Ctrl-C and waited for when we are: a benchmark has to
    take its network namespaces down.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    environment["TMPDIR"] = str(tree.parent / "tmp")
    with subprocess.Popen(
        words,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            printed, complaints = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ComparisonError(f"{_shown(words)} took longer than {timeout:.0f} s") from None
        finally:
            _end(child)
    if child.returncode:
        raise ComparisonError(f"{_shown(words)}: {_last(complaints) or _last(printed) or child.returncode}")
    return printed


def _end(child: subprocess.Popen[str]) -> None:
    if child.returncode is not None:
        return
    try:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGINT)
            child.communicate(timeout=_END_TIMEOUT)
    finally:
        with suppress(ProcessLookupError):  # what is left of its group
            os.killpg(child.pid, signal.SIGKILL)


def _git(repository: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise ComparisonError("git is missing: install the package git") from None
    if check and done.returncode:
        raise ComparisonError(f"git {words[0]}: {_last(done.stderr)}")
    return done


def _describe(commit: str, repository: Path) -> str:
    return _git(repository, "log", "-1", "--format=%h %s", commit).stdout.strip()


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _shown(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]])
