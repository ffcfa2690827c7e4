"""The state that the hosts of a pair share through a store.

Begin with synchroniser.py, which writes this host's records and reads the other's. record_kind.py says what a kind of
records offers; bindings.py, switches.py and legs.py are the kinds. store.py is the store's interface, redis_store.py
the one there is, engine_adapter.py the side of a worker's engine. Imports engine and below.
"""
