"""Production's connections: which backend each has, and how its packets are translated.

services.py knows the rules' services and backends by number, schedulers.py chooses a backend, flows.py holds the
connections. Begin with flows.py. Imports tcp, fastpath, rules and net.
"""
