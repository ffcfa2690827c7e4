"""The state and the orders of a running natmirror, as JSON over HTTP on a Unix socket.

Begin with server.py, which answers in the running program; client.py asks it, report.py makes text and tables of the
answers. Imports errors alone.
"""

PREFIX = "/v1/"
