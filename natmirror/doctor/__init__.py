"""``natmirror doctor``: what keeps the rules from working on this host, before the first start or beside a run.

Begin with checks.py, the table of all checks. subject.py has what they look at: the rules, this host, and the running
natmirror's own findings. machine_checks.py and run_checks.py have the checks that only doctor makes; the others are
those of the run itself (natmirror.linux.preflight). visit.py makes all checks and mends what is safe to mend,
outcome.py has the results, screen.py shows them.
"""

WARNED, COPIES_FAIL, PRODUCTION_FAILS = 3, 4, 5
"""The exit codes grow with the severity. The last one is also that of ``natmirror health`` for a host that does not let
production pass."""
