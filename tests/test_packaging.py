"""Packaging: the source archive has all that a build needs, and the build script reads the headers correctly."""

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from natmirror.errors import HostError
from natmirror.lab.controllers.programs import OsKen

ROOT = Path(__file__).parent.parent
BUILT = {"_ffi.c"}
OF_BUILDS = {"build", "dist", "natmirror.egg-info"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names in a source archive of the checkout, without the archive's top folder."""
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


def test_the_source_archive_has_all_files_of_a_checkout(archive: set[str]) -> None:
    tops = [path for path in ROOT.iterdir() if path.name not in OF_BUILDS and not path.name.startswith(".")]
    files = [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top]) if file.is_file()]
    files = [file for file in files if file.name not in BUILT and file.suffix not in (".so", ".pyc", ".o")]
    wanted = {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}
    assert {"natmirror/_fastpath.h", "debian/rules", "tests/conftest.py"} < wanted
    assert wanted - archive == set()


def test_the_source_archive_has_no_built_files(archive: set[str]) -> None:
    assert "natmirror/_ffi.c" not in archive
    assert not [name for name in archive if name.endswith((".so", ".pyc", ".o"))]


def test_a_wheel_is_tagged_for_each_python_that_may_run_it() -> None:
    code = """
from setuptools import Distribution
from distutils.core import run_setup
wheel = run_setup("setup.py", stop_after="config").get_command_obj("bdist_wheel")
wheel.ensure_finalized()
print(*wheel.get_tag()[:2])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    python, abi = done.stdout.split()
    assert abi == "abi3"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + python.replace("cp3", "3.")
    assert (ROOT / "natmirror/_ffi.abi3.so").exists(), "what the wheel holds has no tag of one Python"


def test_a_wheel_has_all_files_that_are_no_source_of_c(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    sources = {".c", ".h", ".o", ".so", ".pyc"}
    wanted = {path.relative_to(ROOT) for path in ROOT.glob("natmirror/**/*.*") if path.suffix not in sources}
    assert wanted - {path.relative_to(tmp_path) for path in tmp_path.glob("natmirror/**/*.*")} == set()


def test_what_a_wheel_holds_links_to_libc_alone() -> None:
    """So a wheel runs wherever libc is as new as where it was built. Its tag is not manylinux: PyPI has no wheel of
    netfilterqueue, so that an installation needs a compiler anyway."""
    command = ["readelf", "--dynamic", "natmirror/_ffi.abi3.so"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert set(re.findall(r"NEEDED.*\[(.*)\]", shown)) <= {"libc.so.6", "libm.so.6"}


def test_the_demo_names_the_extra_that_it_needs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [one.partition(">")[0] for one in extras["demo"]] == ["os-ken"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OsKen, "_installed", lambda _: False)
        with pytest.raises(HostError, match=r"^os_ken is missing; run: pip install 'natmirror\[demo\]'$"):
            OsKen(Mock(), "c1")


# gcc 15 warns of such an array, as it has no room for the string's end.
FULL_ARRAY = re.compile(r"""\w+\[(\d+)\]\s*=\s*"((?:[^"\\]|\\.)*)";""")


def test_no_string_fills_its_array_to_the_last_byte() -> None:
    sources = [
        path for pattern in ("natmirror/**/*.[ch]", "bench/*.[ch]", "tests/**/*.[ch]") for path in ROOT.glob(pattern)
    ]
    assert len(sources) > 20
    assert not [
        f"{path}: {found[0]}"
        for path in sources
        if path.name not in BUILT
        for found in FULL_ARRAY.finditer(path.read_text())
        if len(found[2]) >= int(found[1])
    ]


@pytest.fixture(scope="module")
def declarations() -> Callable[[str], str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build = runpy.run_path("natmirror/_fastpath_build.py")
    function: Callable[[str], str] = build["declarations"]
    return function


def test_declarations_keep_constants_and_drop_preprocessor_lines(declarations: Callable[[str], str]) -> None:
    header = """
#ifndef GUARD_H
#define GUARD_H
#include <stdint.h>
#define LIMIT (1 << 4) /* over
                          two lines */
#define PAUSE 0.5
int32_t answer(void); // not this
#endif
"""
    constants = ["#define LIMIT ...", "static const double PAUSE;"]
    assert declarations(header).split("\n") == ["", *constants, "int32_t answer(void); "]
