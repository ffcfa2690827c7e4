"""The two sides of a comparison: a commit or the work tree, each in a temporary tree with its own build.

All files of a comparison, and the temporary files of its programs, lie in one temporary directory, whose name begins
with ``TEMPORARY``. It is removed however the comparison ends.
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
_END_TIMEOUT = 60.0  # for a benchmark to remove its network namespaces
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would make one side import another's package


class ComparisonError(Exception):
    """Two commits cannot be compared; the message is one line."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side: its ``title`` for people, and the ``tree`` of its files."""

    title: str
    tree: Path

    @property
    def python(self) -> str:
        """The interpreter of the side's own environment."""
        return str(self.tree / ".venv/bin/python")


def resolve(name: str, repository: Path) -> str:
    """Return the full id of a commit; ComparisonError where no commit has that name."""
    found = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if found.returncode:
        raise ComparisonError(f"no commit is called {name!r}" + (f": {_last(found.stderr)}" if found.stderr else ""))
    return found.stdout.strip()


def export(commit: str | None, tree: Path, repository: Path) -> Side:
    """Write a commit's files, or for None the work tree's, into ``tree``, without files that git ignores."""
    tree.mkdir()
    if commit is None:
        title = _describe(resolve("HEAD", repository), repository)
        if _git(repository, "status", "--porcelain").stdout:
            title += ", with uncommitted changes"
        for name in _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0"):
            source = repository / name
            if name and (source.is_file() or source.is_symlink()):  # the index still has deleted files
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, tree / name, follow_symlinks=False)
        return Side(title, tree)
    archive = tree.with_suffix(".tar")
    _git(repository, "archive", "--format=tar", "--output", str(archive), commit)
    shutil.unpack_archive(archive, tree)
    archive.unlink()
    return Side(_describe(commit, repository), tree)


def build(side: Side, *, with_bench: bool) -> None:
    """Make a side's environment and build its extension, with the side's own script."""
    if not (side.tree / "scripts/setup").exists():
        raise ComparisonError(f"{side.title} cannot be built: it has no scripts/setup")
    words = ["sh", "scripts/setup", *(["--bench"] if with_bench else [])]
    try:
        run(words, side.tree, timeout=_BUILD_TIMEOUT)
    except ComparisonError as error:
        raise ComparisonError(f"{side.title} could not be built: {error}") from None


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a directory and remove it afterwards, also after Ctrl-C, SIGTERM and SIGHUP, which become
    KeyboardInterrupt."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in caught]
    directory = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    try:
        (directory / "tmp").mkdir()
        yield directory
    finally:
        for number in caught:  # a second Ctrl-C would interrupt the removal
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(directory)
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)


def run(words: Sequence[str], tree: Path, *, timeout: float) -> str:
    """Run a program in a side's tree and return its output; ComparisonError with its last line where it fails.

    The program has its own process group. If the comparison is interrupted, the group is interrupted and waited for,
    because a benchmark has to remove its network namespaces.
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
        with suppress(ProcessLookupError):  # no process of its group is left
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
