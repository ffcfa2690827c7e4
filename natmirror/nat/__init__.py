"""Production's connections: which backend each has, and how its packets are translated.

services.py knows the rules' services and backends by number, service_tables.py tells the C gear of them, schedulers.py
chooses a backend, failed_attempts.py remembers which ones failed a client, flows.py holds the connections. Begin with
flows.py. Imports tcp, fastpath, rules and net.
"""
