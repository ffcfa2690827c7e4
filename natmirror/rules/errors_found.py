"""Collects the errors of a rules file, so that an operator sees all of them at once.

What is read or checked inside kept() does not depend on what went before: an error there is noted, and the rest of the
file is read and checked, too. What is made of several such parts is made inside whole(): if a part has failed, so has
the whole, for no reason of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import NoReturn

from natmirror.errors import RulesError

_MOST = 50


class PlacedError(RulesError):
    """An error at a place in the file."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class _PartFailed(RulesError):
    """A part has failed, and its error is noted."""


class ErrorsFound:
    """The errors of one file."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []

    def note(self, error: PlacedError) -> None:
        """Note an error, and go on."""
        self._found.append((error.line, str(error)))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Note the error that the block raises, if it raises one: what follows does not depend on the block."""
        try:
            yield
        except PlacedError as error:
            self.note(error)
        except _PartFailed:
            pass

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Raise an error after the block if one was noted in it, because the block's result lacks a part."""
        before = len(self._found)
        yield
        if len(self._found) > before:
            self.fail()

    def require_none(self) -> None:
        """Raise an error if one was noted."""
        if self._found:
            self.fail()

    def fail(self) -> NoReturn:
        """Raise an error for something of which a part has failed."""
        raise _PartFailed

    def joined(self) -> RulesError:
        """Return all that was noted as one error."""
        texts = [text for _, text in sorted(self._found, key=itemgetter(0))]
        more = [f"and {len(texts) - _MOST} more errors"] if len(texts) > _MOST else []
        return RulesError(*texts[:_MOST], *more)
