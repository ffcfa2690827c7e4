"""What natmirror raises. Each message is one line that an operator can act on; the command line prints it and exits."""


class NatmirrorError(Exception):
    """Base of every error that natmirror raises on purpose.

    ``exit_code`` is what the command line ends with.
    """

    exit_code = 1


class RulesError(NatmirrorError):
    """A rules file that cannot be used: ``file:line: key.path: expected X, found Y``."""

    exit_code = 2


class HostError(NatmirrorError):
    """The machine refused something: a missing right, program, kernel feature or a busy queue."""


class CaptureError(NatmirrorError):
    """A capture file that cannot be read, or not to its end."""
