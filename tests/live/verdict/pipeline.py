"""A learning switch with more than one table: multicast is dropped and, in OpenFlow 1.3, IPv4 is metered before the
table in which it learns; frames for one host get a VLAN tag."""

from dataclasses import replace

from tests.live.verdict.learning import Learning
from tests.live.verdict.orders import ANYTHING, Actions, Cause, Frame, Meter, Order, Output, Rule, Tag

IPV4 = 0x0800
MULTICAST = ("224.0.0.0", "240.0.0.0")
TAGGED_PORT, VLAN = 3, 5
METER, RATE = 1, 1000  # kbit/s
LEARNING_TABLE = 1


class Pipeline:
    """Learns as Learning does, in another table."""

    def __init__(self, version: str) -> None:
        self._is_v10 = version == "1.0"
        self._learning = Learning(version)

    def programme(self) -> list[Order]:
        """Return the orders to a switch that has just connected."""
        drop = Rule(50, (("eth_type", IPV4), ("ipv4_dst", MULTICAST)), ())
        orders = self._learning.programme()
        if self._is_v10:
            return [*orders, drop]
        learning = [
            replace(one, table=LEARNING_TABLE) if isinstance(one, Rule) and one.match == ANYTHING else one
            for one in orders
        ]
        metered = Rule(5, (("eth_type", IPV4),), (), meter=METER, goto=LEARNING_TABLE)
        others = Rule(0, ANYTHING, (), goto=LEARNING_TABLE)
        return [*learning, Meter(METER, RATE), drop, metered, others]

    def answer(self, datapath: int, in_port: int, frame: bytes) -> tuple[Cause, list[Order]]:
        """Learn from a frame that a switch has sent in a PACKET_IN, and return the orders for it."""
        cause, orders = self._learning.answer(datapath, in_port, frame)
        table = 0 if self._is_v10 else LEARNING_TABLE
        changed: list[Order] = []
        for one in orders:
            if isinstance(one, Rule):
                one = replace(one, table=table, actions=_tagged(one.actions))
            elif isinstance(one, Frame):
                one = replace(one, actions=_tagged(one.actions))
            changed.append(one)
        return cause, changed


def _tagged(actions: Actions) -> Actions:
    return (Tag(VLAN), *actions) if actions == (Output(TAGGED_PORT),) else actions
