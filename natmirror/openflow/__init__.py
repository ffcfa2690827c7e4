"""OpenFlow, as far as a leg has to speak it: no I/O, no clock, no knowledge of packets."""
