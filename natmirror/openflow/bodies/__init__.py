"""The bodies of OpenFlow messages as values: what changes a switch, and what a switch says of its state.

decoder.py makes the values of messages, text.py writes them as ``ovs-ofctl`` does, frames.py reads a frame's fields.
values.py and group_values.py declare the values, elements.py what they consist of, fields.py the match fields.

Values are hashable and canonical: two messages of one version with the same effect on a switch are equal. What has no
effect is left out, ports have 32 bits, and instructions stand in the order of execution. A body that is malformed
raises MalformedBody, and nothing else does. What is unknown here, as an experimenter's action, compares by its bytes.
"""
