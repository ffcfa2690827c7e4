"""What is shipped: the source archive has all that a build needs, and the build script reads our headers rightly."""

import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = (
    "natmirror/**/*.py",
    "natmirror/**/*.c",
    "natmirror/**/*.h",
    "natmirror/**/*.pyi",
    "natmirror/py.typed",
    "rules/*.yaml",
    "systemd/*",
    "pcaps/**/*.*",
)
BUILT = {"_ffi.c"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a source archive that was made from a copy of the checkout, the archive's own folder left out."""
    target = tmp_path_factory.mktemp("sdist")
    copy = target / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__"))
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(target)],
        cwd=copy,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (path,) = target.glob("natmirror-*.tar.gz")
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def test_source_archive_has_what_a_build_and_its_tests_need(archive: set[str]) -> None:
    wanted = {
        str(path.relative_to(ROOT)) for pattern in SHIPPED for path in ROOT.glob(pattern) if path.name not in BUILT
    }
    assert "natmirror/_fastpath.h" in wanted
    wanted |= {"setup.py", "pyproject.toml", "LICENSE", "Makefile", "scripts/setup", "tests/conftest.py"}
    assert wanted - archive == set()


def test_source_archive_has_nothing_that_was_built(archive: set[str]) -> None:
    assert "natmirror/_ffi.c" not in archive
    assert not [name for name in archive if name.endswith((".so", ".pyc", ".o"))]


@pytest.fixture(scope="module")
def declarations() -> Callable[[str], str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build = runpy.run_path("natmirror/_fastpath_build.py")
    function: Callable[[str], str] = build["declarations"]
    return function


def test_declarations_keep_constants_and_drop_the_preprocessor(declarations: Callable[[str], str]) -> None:
    header = """
#ifndef GUARD_H
#define GUARD_H
#include <stdint.h>
#define LIMIT (1 << 4) /* told over
                          two lines */
#define PAUSE 0.5
int32_t answer(void); // not this
#endif
"""
    constants = ["#define LIMIT ...", "static const double PAUSE;"]
    assert declarations(header).split("\n") == ["", *constants, "int32_t answer(void); "]
