"""The errors that natmirror raises. Each message is one line that an operator can act on; the command line prints it
and exits."""


class NatmirrorError(Exception):
    """Base of every error that natmirror raises on purpose.

    ``exit_code`` is the exit status of the command line.
    """

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """All that it says, line by line."""
        return tuple(str(self).splitlines())


class RulesError(NatmirrorError):
    """An unusable rules file, with an error or several, each as ``file:line: key.path: expected X, found Y``. As text
    it is one line: the first error, and the number of the others."""

    exit_code = 2

    def __init__(self, *errors: str) -> None:
        more = f" (and {len(errors) - 1} more: natmirror --rules FILE --check has all)" if len(errors) > 1 else ""
        super().__init__("".join((*errors[:1], more)))
        self._errors = errors

    @property
    def lines(self) -> tuple[str, ...]:
        """The errors, in the order of their lines in the file."""
        return self._errors


class HostError(NatmirrorError):
    """The host refused something: a right, a program or a kernel feature is missing, or a queue is in use."""


class NoAnswerError(HostError):
    """No natmirror answers on its socket."""


class RefusedError(HostError):
    """The running natmirror refuses a request, because what it asks for does not exist or is malformed."""


class CaptureError(NatmirrorError):
    """A capture, or a file of recorded orders, that cannot be read or written."""
