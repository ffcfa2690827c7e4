"""Hostile peers around an engine: clients, backends, mirrors, routers, records and operators that do anything.

``setting.py`` has the rules and the endpoints, ``host.py`` the engine in both gears, ``payloads.py`` what packets
carry, ``peers.py`` the peers and what they know, ``moves.py`` all that they do, ``commands.py`` what the operator and
the other host do, ``invariants.py`` what holds nevertheless, and ``play.py`` a whole run.
"""
