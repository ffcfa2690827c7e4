"""Production's connections with the backend of each, and the services and backends.

flows.py holds the connections: begin there. services.py numbers the rules' services and backends, service_tables.py
writes them into the C gear's plan, schedulers.py chooses a backend, failed_attempts.py remembers the backends that
failed a client. Imports tcp, fastpath, rules and net.
"""
