"""The exit codes of ``natmirror health``. Imports nothing: it runs every second."""

FIT = 0
NOT_RUNNING = 1
NOT_READY = 2
STUCK = 3
RULES_MISSING = 4
HOST_FAILS = 5
MISUSED = 64
"""The command line is wrong, which says nothing about natmirror's health (EX_USAGE in sysexits.h)."""

MEANINGS = {
    FIT: "fit",
    NOT_RUNNING: "not running, or not to be reached",
    NOT_READY: "not ready",
    STUCK: "stuck",
    RULES_MISSING: "the iptables rules are not in place",
    HOST_FAILS: "this host does not let production pass",
}
