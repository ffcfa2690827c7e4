"""The bodies of OpenFlow messages as values: what changes a switch, and what a switch says of its state.

decoder.py makes the values of messages. values.py and group_values.py declare them, elements.py what they consist of.
They are hashable and canonical: two messages of the same version with the same effect on a switch have equal values. So
masks of all ones are left out, and so are fields that match anything or that a command ignores. Ports have 32 bits in
all versions, and instructions stand in the order in which a switch executes them.

fields.py lists the match fields, layouts.py the layouts of actions and messages. matches.py, actions.py and
instructions.py decode and encode by them; flows.py, packets.py, groups.py, settings.py and statistics.py decode whole
bodies. match_text.py, action_text.py and text.py write them as ``ovs-ofctl`` does. frames.py reads the match fields of
an Ethernet frame.

A body that is malformed raises Malformed, and no other exception. What is well formed but unknown here, such as an
experimenter's action, becomes an opaque value that compares by its bytes.
"""
