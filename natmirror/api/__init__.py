"""The state and the commands of a running natmirror, as JSON over HTTP on a Unix socket.

Begin with server.py, which answers in the running natmirror. client.py asks it, and report.py turns the answers into
text and tables. Imports only errors.
"""

PREFIX = "/v1/"
