"""Explains why packets do not get through: the rule, route, setting or interface at fault, and what mends it."""

import os
from dataclasses import dataclass
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH

from natmirror.linux.host_state import HostState
from natmirror.linux.interfaces import setting_of
from natmirror.linux.routes import Question
from natmirror.linux.sampled_clients import Client
from natmirror.linux.xfrm import blocking

_STRICT = 1
_KINDS = {EINVAL: "blackhole", EHOSTUNREACH: "unreachable", EACCES: "prohibit"}


@dataclass(frozen=True, slots=True)
class Break:
    """Why packets do not get through, and what mends it. ``is_reported``: another finding says so too."""

    problem: str
    mend: str
    is_reported: bool = True


def why_refused(question: Question, client: Client, host: HostState) -> Break | None:
    """Return why the kernel refuses a packet between a client and a backend, or a copy; None if it does not."""
    link = question.link or ""
    is_reply = question.to == client.address
    packets = "replies to clients" if is_reply else f"packets that come in by {link}"
    answer = host.answers.get(question)
    links = {"fwd": link, "out": None if answer is None else answer.link}
    policed = [one for one, at in links.items() if at is not None and not {at, "all"} & host.unpoliced.get(one, set())]
    if (policy := blocking(host.policies, question, policed)) is not None:
        return Break(f"the IPsec policy '{policy}' blocks {packets}", f"run: {policy.removal}", False)
    if answer is None or not answer.error:
        return None
    if host.forwarding.get(link) == 0:
        return Break(f"{link} forwards nothing", f"run: sysctl -w {setting_of(link, 'forwarding')}=1")
    kind = _KINDS.get(answer.error)
    for rule in host.refusing_rules:
        if rule.kind == kind and rule.matches(question):
            return Break(f"the policy rule '{rule}' refuses {packets}", f"run: ip rule del {rule}", False)
    for address in (question.to, question.source):
        refusing = [route for route in host.refusing_routes if address in route.network and route.kind == kind]
        if refusing:
            route = max(refusing, key=lambda one: one.network.prefixlen)
            return Break(f"the route '{route}' refuses {packets}", f"run: ip route del {route}", False)
    back = host.answers.get(Question(question.source)) if question.source is not None else None
    reverse_path = max(host.rp_filter.get(link, 0), host.rp_filter.get("all", 0))
    if answer.error == EINVAL and reverse_path and back is not None and back.error:
        return Break(
            f"there is no route to {question.source}, which the reverse path filter of {link} asks for",
            f"add that route; to see what there is, run: ip route get {question.source}",
            False,
        )
    if answer.error == EINVAL and reverse_path == _STRICT and (back is None or back.link != link):
        return Break(
            f"the reverse path filter of {link} is strict (rp_filter = 1), and the route to {question.source} does not"
            f" lead to {link}",
            f"correct that route; to see it, run: ip route get {question.source}\nor run: sysctl -w"
            f" {setting_of(link, 'rp_filter')}=2",
            False,
        )
    if answer.error == ENETUNREACH:
        to = f"clients in {client.network}" if is_reply else str(question.to)
        return Break(
            f"there is no route to {to}",
            f"run: ip route add {client.network if is_reply else question.to} via GATEWAY",
            False,
        )
    return Break(
        f"the kernel's routes refuse {packets} ({os.strerror(answer.error)})",
        f"see: ip rule; ip route get {question.to} from {question.source} iif {link}",
        False,
    )


def why_dead(link: str, host: HostState) -> Break | None:
    """Return why no packets get through an interface; None if they do, or it is unknown."""
    if (details := host.details.get(link)) is None:
        return None
    if not details.has_carrier:
        return Break(
            f"the interface {link} is down or has no carrier",
            f"run: ip link set {link} up\nif it is up, see the cable or the other end",
        )
    if details.master is not None:
        return Break(
            f"the interface {link} is a port of {details.master}",
            f"run: ip link set {link} nomaster\nor move its addresses and routes to {details.master}",
        )
    return None
