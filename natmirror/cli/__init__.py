"""The command line.

entry.py is the entry point: it runs ``health`` and ``role``, which keepalived calls every second or at a change, before
it imports anything else; so this file imports nothing. commands.py has natmirror itself, running.py the commands that
talk to a running natmirror, tools.py the others. Each command imports what it needs when it runs. exit_codes.py has the
exit codes of all.
"""
