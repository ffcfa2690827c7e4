"""The exit codes of the commands, as text at the end of their help."""

from natmirror.doctor import COPIES_FAIL, PRODUCTION_FAILS, WARNED
from natmirror.ha.exit_codes import FIT, HOST_FAILS, MISUSED, NOT_READY, NOT_RUNNING, RULES_MISSING, STUCK

_WIDTH = 4
_USAGE = {2: "The command line is wrong."}

RUN = {
    0: "natmirror has stopped on SIGINT or SIGTERM, or --check or --dry-run has printed its result.",
    1: "The host has refused something that natmirror needs, the stop has left something behind, or there was an"
    " internal error.",
    2: "The command line or the rules file is wrong.",
}
ASK = {
    0: "The running natmirror has answered.",
    1: "No natmirror answers on SOCKET, it is too busy, or it refuses the request.",
} | _USAGE
TOP = {
    0: "The operator has left the screen.",
    1: "No natmirror answers on SOCKET at the start, it refuses the request, or there is no terminal.",
} | _USAGE
EXPLAIN = {
    0: "The running natmirror has answered, or the rules have.",
    1: "No natmirror answers on SOCKET, it is too busy, or it knows no such service.",
    2: "The command line or the rules file is wrong.",
}
EVENTS = {
    0: "The events are shown.",
    1: "No natmirror answers on SOCKET, and FILE has no events or cannot be read.",
} | _USAGE
COMMAND = {
    0: "The running natmirror has carried out the command.",
    1: "No natmirror answers on SOCKET, or it has refused the command.",
} | _USAGE
NOT_EMPTY = 3
DRAIN = COMMAND | {NOT_EMPTY: "The time of --wait is over, and connections are left."}
INTERRUPTED = 130
AGREES, DIFFERS, MISUSED_VERDICT, TOO_LITTLE, NO_ANSWER = range(5)
VERDICT = {
    AGREES: "AGREES: the master, or each of them, would have done what production's controller did.",
    DIFFERS: "DIFFERS: a master would have done something else.",
    MISUSED_VERDICT: "The command line is wrong, or there is no such mirror with verdict: on.",
    TOO_LITTLE: "TOO LITTLE: nothing differs that counts, but too little was compared to say more.",
    NO_ANSWER: "No natmirror answers on SOCKET, or it is too busy.",
    INTERRUPTED: "Interrupted.",
}
RELOAD = {
    0: "The running natmirror uses the new rules.",
    1: "No natmirror answers on SOCKET, or it has refused the new rules and keeps the old ones.",
} | _USAGE
HEALTH = {
    FIT: "natmirror is fit to be the active host.",
    NOT_RUNNING: "natmirror is not running.",
    NOT_READY: "natmirror is starting or stopping, or has not yet read the shared state.",
    STUCK: "natmirror does not answer within 0.8 s, a packet thread has not run for 3 s or has ended, or the kernel"
    " refuses the verdicts of a queue, has lost some or does not confirm them.",
    RULES_MISSING: "natmirror's iptables rules are gone and cannot be installed again.",
    HOST_FAILS: "This host does not let production pass: natmirror prints the cause and what mends it.",
    MISUSED: "The command line is wrong.",
}
ROLE = {
    0: "natmirror has accepted the role.",
    NOT_RUNNING: "No natmirror answers on SOCKET, or it has refused the role.",
    MISUSED: "The command line is wrong.",
}
KEEPALIVED = {
    0: "The configuration is written.",
    1: "The rules have no pair, this host is not in it, or the file cannot be written.",
    2: "The command line or the rules file is wrong.",
}
CLEANUP = {
    0: "Nothing of natmirror is left in this network namespace.",
    1: "natmirror is running, or the host has refused to remove something.",
} | _USAGE
DOCTOR = {
    0: "No problem was found.",
    1: "There was an error in doctor itself.",
    2: "The command line is wrong.",
    WARNED: "There are warnings, or a check could not be made.",
    COPIES_FAIL: "There is a failure that keeps copies from mirrors.",
    PRODUCTION_FAILS: "There is a failure that stops production, or that a start of natmirror would meet.",
}
CAPTURE = {
    0: "The capture is written, up to the end that the options or a signal have set.",
    1: "No natmirror answers on SOCKET or it knows no such client, a right is missing, or FILE cannot be written.",
} | _USAGE
SUPPORT_DUMP = {
    0: "The archive is written; its README.txt says which parts could not be had.",
    1: "FILE exists already, or cannot be written.",
} | _USAGE
REPLAY = {
    0: "The whole capture was replayed.",
    1: "The capture cannot be read, or not to its end; the report covers the packets before that.",
    2: "The command line or the rules file is wrong.",
}
DEMO = {
    0: "All facts that the demo checks were true.",
    1: "A fact was not true, or the host has refused something.",
    2: "The command line or the rules file is wrong.",
    INTERRUPTED: "Interrupted.",
}


def epilog(codes: dict[int, str]) -> str:
    """Return the end of a command's help: a paragraph for each exit code, since click wraps paragraphs."""
    return "\n\n".join(("Exit codes:", *(f"{code}: {sentence}" for code, sentence in codes.items())))
