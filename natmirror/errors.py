"""The errors that natmirror raises. Each message is one line that an operator can act on; the command line prints it
and exits."""


class NatmirrorError(Exception):
    """Base of every error that natmirror raises on purpose.

    ``exit_code`` is the exit status of the command line.
    """

    exit_code = 1


class RulesError(NatmirrorError):
    """An unusable rules file: ``file:line: key.path: expected X, found Y``."""

    exit_code = 2


class HostError(NatmirrorError):
    """The host refused something: a right, a program or a kernel feature is missing, or a queue is in use."""


class NoAnswerError(HostError):
    """No natmirror answers on its socket."""


class RefusedError(HostError):
    """The running natmirror refuses a request, because what it asks for does not exist or is malformed."""


class CaptureError(NatmirrorError):
    """A capture, or a file of recorded orders, that cannot be read or written."""
