"""The command line. entry.py answers what keepalived runs before anything else is imported; commands.py has the rest.

This file stays empty of imports for that reason. The commands import whatever they need, when they run.
"""
