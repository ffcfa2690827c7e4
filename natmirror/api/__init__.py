"""The state and the commands of a running natmirror, as JSON over HTTP on a Unix socket.

resources.py declares each request. A process of its own serves them, without capabilities: begin with __main__.py.
http_server.py speaks HTTP, routes.py answers, program.py asks the running natmirror, whose side is
runtime/api_process.py. client.py is a client of the API; status_screen.py, list_tables.py and report.py turn its
answers into text and tables. Imports only lower rows.
"""

PREFIX = "/v1/"
