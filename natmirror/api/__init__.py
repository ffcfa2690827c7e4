"""The state of a running natmirror, and commands to it, as JSON over HTTP on a Unix socket.

Begin with server.py, which answers in the running program; client.py asks it, report.py makes text and tables of the
answers. Imports only errors.
"""

PREFIX = "/v1/"
