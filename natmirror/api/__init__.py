"""The state and the orders of a running natmirror, as JSON over HTTP on a Unix socket.

server.py answers in the running program, client.py asks, report.py makes text of what it says. Imports errors alone.
"""

PREFIX = "/v1/"
