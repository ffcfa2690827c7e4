"""The state that the hosts of a pair share through a store, as records.

Begin with synchroniser.py, which writes this host's records and reads the other host's. record_kind.py declares what
each kind of record implements; bindings.py, switches.py, legs.py and overrides.py are the kinds. store.py declares the
store, redis_store.py implements it, and engine_adapter.py reads and changes the state of one engine. Imports engine
and below.
"""
