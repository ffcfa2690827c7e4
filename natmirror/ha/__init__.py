"""One host of a pair: its role, its readiness, and the commands and configuration for keepalived.

Begin with member.py, which is this host. keepalived_hooks.py holds the commands that keepalived runs, one of them every
second: it imports only the exit codes, and this file imports nothing. Imports rules, linux and errors.
"""
