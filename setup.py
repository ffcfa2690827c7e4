"""Builds the C extension natmirror._ffi; everything else about the package stands in pyproject.toml."""

from setuptools import setup

# cffi builds the extension against the stable ABI, so one wheel serves Python 3.11 and all later ones.
setup(
    cffi_modules=["natmirror/_fastpath_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
