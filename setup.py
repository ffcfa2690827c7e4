"""Builds the C extension natmirror._ffi; everything else about the package stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["natmirror/_fastpath_build.py:ffibuilder"])
