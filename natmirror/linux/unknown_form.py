"""Answers of programs and of the kernel in a form that natmirror does not know."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2.netlink.exceptions import NetlinkDecodeError

from natmirror.errors import HostError

_RAISED_BY_PARSERS = (ValueError, LookupError, TypeError, AttributeError, struct.error, NetlinkDecodeError)


class UnknownFormError(HostError):
    """An answer in a form that natmirror does not know. The next one very likely has the same form."""


@contextmanager
def understanding(answer: str) -> Iterator[None]:
    """Turn what a parser raises at a form that it does not know into UnknownFormError. ``answer`` is for the
    message."""
    try:
        yield
    except _RAISED_BY_PARSERS as error:
        raise UnknownFormError(f"natmirror does not understand {answer} ({error!r})") from error
