"""Sends random frames through the model's tables and, by ofproto/trace, the switch's: both give the same ports."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from random import Random

from natmirror.openflow.bodies.elements import MatchField, ReservedPort
from natmirror.openflow.bodies.match_text import match_text
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.walk import Choice, Outputs, walk

_PORTS = (1, 2)  # those that the switch has
_MACS = (0x0200_0000_0001, 0x0200_0000_0002, 0x0200_0000_0003)
_TAGS = ((0, 0), (0x1001, 2), (0x1002, 0))
_LEARNED = (ReservedPort.NORMAL, ReservedPort.FLOOD)  # what the switch does then is not in its tables
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_PORT = re.compile(r"^\s+\S+ (\d+)/(\d+):", re.MULTILINE)  # OpenFlow's number and the datapath's
_IN_BRACKETS = re.compile(r"\([^()]*\)")

AppCtl = Callable[..., str]
"""Gives Open vSwitch's process a command, and returns its output."""


def random_fields(rng: Random) -> dict[str, int]:
    """Return the fields of a frame that the rules of orders.py may match."""
    fields = {"in_port": rng.choice(_PORTS), "eth_dst": rng.choice(_MACS), "eth_src": rng.choice(_MACS)}
    fields["vlan_vid"], fields["vlan_pcp"] = rng.choice(_TAGS)
    address = rng.choice((0x0A00_0000, 0x0A00_0100)) + rng.randint(1, 3)
    if rng.random() < 0.3:
        return {**fields, "eth_type": 0x806, "arp_op": 1, "arp_tpa": address, "arp_spa": 1}
    protocol = rng.choice((1, 6, 17))
    fields |= {"eth_type": 0x800, "ip_proto": protocol, "ipv4_src": address, "ipv4_dst": 1}
    fields["ip_dscp"] = rng.choice((0, 4, 8))
    if protocol == 1:
        return {**fields, "icmpv4_type": rng.choice((0, 8)), "icmpv4_code": 0}
    name = "tcp" if protocol == 6 else "udp"
    return {**fields, f"{name}_src": 1, f"{name}_dst": rng.choice((53, 80))}


class Tracer:
    """Compares what becomes of frames in a model and in its switch."""

    def __init__(self, appctl: AppCtl) -> None:
        self._appctl = appctl
        self._numbers = {int(datapath): int(port) for port, datapath in _PORT.findall(appctl("dpif/show"))}

    def compare(self, model: Model, fields: dict[str, int], now: float) -> tuple[bool, str]:
        """Return whether the frame could be compared, and how its outputs differ: nothing if they do not."""
        outcome = walk(model, fields, now)
        possible = list(_possible(outcome.outputs))
        if outcome.unknown is not None or outcome.is_doubtful or any(one & set(_LEARNED) for one in possible):
            return False, ""
        text = match_text(tuple(MatchField(name, value) for name, value in sorted(fields.items())))
        if text.startswith("udp"):
            text = text.replace("tp_", "udp_")  # here the short name is TCP's
        said = self._appctl("ofproto/trace", "br0", text)
        found = _ACTIONS.findall(said)
        assert found, said
        if "recirc(" in found[-1]:
            return False, ""  # of a SELECT group, the bucket is chosen by a hash that the trace does not have
        ports = self._ports(",".join(found))
        expected = [{port for port in one if port in (*_PORTS, ReservedPort.CONTROLLER)} for one in possible]
        if ports in expected:
            return True, ""
        return True, f"{text} leaves the model by one of {expected}, the switch by {ports}: {said}"

    def _ports(self, actions: str) -> set[int]:
        """Return OpenFlow's numbers of the ports in datapath actions."""
        controller = {int(ReservedPort.CONTROLLER)} if "controller(" in actions else set()
        actions = actions.replace("clone(", "")
        while (shorter := _IN_BRACKETS.sub("", actions)) != actions:
            actions = shorter
        numbers = {int(one) for one in actions.replace(")", "").split(",") if one.isdigit()}
        return {self._numbers[one] for one in numbers} | controller


def _possible(outputs: Outputs) -> Iterator[frozenset[int]]:
    """Yield the ports by which a frame leaves, for each way in which the switch may choose."""
    sure = frozenset(one.port for one in outputs if not isinstance(one, Choice))
    choices = [one.options for one in outputs if isinstance(one, Choice)]
    each = [[ports for option in options for ports in _possible(option)] for options in choices]
    for chosen in product(*each):
        yield sure.union(*chosen)
