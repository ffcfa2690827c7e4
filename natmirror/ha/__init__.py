"""One host of a pair: its role, its readiness, and what keepalived runs and reads.

member.py is this host, keepalived_hooks.py what keepalived runs, so it imports nothing but exit codes, and this file
stays empty of imports. Imports rules and linux.
"""
