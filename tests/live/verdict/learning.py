"""A learning switch as a function of PACKET_INs: which orders an honest controller gives. It needs no library."""

from tests.live.verdict.orders import ANYTHING, Cause, Frame, Group, Order, Output, Rule, ToGroup

PRIORITY, IDLE_TIMEOUT = 10, 1
LLDP = 0x88CC
GROUPED_PORT = 4
"""In OpenFlow 1.3, frames for the host at this port go through a group."""


class Learning:
    """Learns which address is behind which port, for several switches."""

    def __init__(self, version: str) -> None:
        self._is_v10 = version == "1.0"
        self._ports: dict[tuple[int, str], int] = {}
        self._count = 0

    def programme(self) -> list[Order]:
        """Return the orders to a switch that has just connected."""
        drop = Rule(100, (("eth_type", LLDP),), ())
        if self._is_v10:
            return [drop]
        miss = Rule(0, ANYTHING, (Output("CONTROLLER", 0xFFFF),))
        return [Group(GROUPED_PORT, GROUPED_PORT), miss, drop]

    def answer(self, datapath: int, in_port: int, frame: bytes) -> tuple[Cause, list[Order]]:
        """Learn from a frame that a switch has sent in a PACKET_IN, and return the orders for it."""
        dst, src = frame[:6].hex(":"), frame[6:12].hex(":")
        eth_type = int.from_bytes(frame[12:14], "big")
        self._count += 1
        self._ports[datapath, src] = in_port
        port = self._ports.get((datapath, dst))
        cause = Cause(self._count, datapath, in_port, src, dst, eth_type, port)
        if port is None:
            return cause, [Frame((Output("FLOOD"),))]
        match = (("in_port", in_port), ("eth_dst", dst), ("eth_src", src), ("eth_type", eth_type))
        is_grouped = port == GROUPED_PORT and not self._is_v10
        actions = (ToGroup(GROUPED_PORT),) if is_grouped else (Output(port),)
        rule = Rule(PRIORITY, match, actions, IDLE_TIMEOUT, reports_removal=True)
        return cause, [rule, Frame((Output(port),))]
