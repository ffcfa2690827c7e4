"""What the hosts of a pair share, and how.

synchroniser.py writes this host's connections to a store and reads the other's, one file a kind of record. store.py is
the store's interface, redis_store.py the one there is, engine_adapter.py the thread's side. Imports engine and below.
"""
