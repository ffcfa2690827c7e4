"""``natmirror support-dump``: an archive for a bug report, in which addresses and names are replaced.

own_parts.py and host_parts.py list what the archive has; collecting.py gets each part within a bounded time, from a
natmirror that runs, hangs or is stopped, or from none; dump.py does both. Then scrubber.py replaces in all parts alike:
addresses as addresses.py maps them, names as names.py finds them, and secrets as secrets.py finds them. archive.py
writes the file, with an index.
"""
