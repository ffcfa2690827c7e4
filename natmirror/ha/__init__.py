"""One host of a pair: its role, its readiness, and what keepalived runs and reads.

Begin with member.py, which is this host. keepalived_hooks.py is what keepalived runs every second: it imports nothing
but exit codes, and this file stays empty of imports. Imports rules, linux and
errors.
"""
