"""Policy rules (ip-rule(8)) that refuse packets."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Network

from pyroute2 import IPRoute

from natmirror.linux.routes import REFUSING, Question

_ANY = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A policy rule that refuses packets, with the conditions that natmirror compares."""

    priority: int
    kind: str
    source: IPv4Network = _ANY
    to: IPv4Network = _ANY
    link: str | None = None
    """The interface by which packets come in; None: any."""

    def matches(self, packet: Question) -> bool:
        """Return whether a packet may be one that the rule refuses."""
        return (
            (self.source == _ANY or (packet.source is not None and packet.source in self.source))
            and packet.to in self.to
            and self.link in (None, packet.link)
        )

    def __str__(self) -> str:
        parts = [f"priority {self.priority} from {'all' if self.source == _ANY else self.source}"]
        parts += [f"to {self.to}"] if self.to != _ANY else []
        parts += [f"iif {self.link}"] if self.link else []
        return " ".join([*parts, self.kind])


def refusing_rules(netlink: IPRoute) -> list[PolicyRule]:
    """Return the policy rules that refuse packets, by priority. NetlinkError or OSError where the kernel does not
    answer."""
    found = [
        PolicyRule(
            rule.get_attr("FRA_PRIORITY") or 0,
            REFUSING[rule["action"]],
            _network(rule.get_attr("FRA_SRC"), rule["src_len"]),
            _network(rule.get_attr("FRA_DST"), rule["dst_len"]),
            rule.get_attr("FRA_IIFNAME"),
        )
        for rule in netlink.get_rules(family=socket.AF_INET)
        if rule["action"] in REFUSING
    ]
    return sorted(found, key=lambda rule: rule.priority)


def _network(address: str | None, prefix_len: int) -> IPv4Network:
    """Return the network that the kernel compares: it keeps the address as the operator wrote it, with host bits."""
    return IPv4Network((address or 0, prefix_len), strict=False)
