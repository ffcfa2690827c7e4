"""``natmirror doctor --send``: a connection of its own to each service, through the running natmirror.

The packets are real, and take the path of clients' packets: what no look at settings can find, they meet. The flow that
natmirror shows for the connection tells how far it has come: to which backend, and with its copies to which mirrors.
"""

import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from natmirror.api.client import ask_list
from natmirror.docstrings import sentences
from natmirror.doctor.client_port import ClientPort
from natmirror.doctor.free_address import route_to, why_not_free
from natmirror.doctor.outcome import CheckState, Outcome, state_of
from natmirror.doctor.subject import NotCheckedError, NothingToCheckError, Subject
from natmirror.errors import HostError
from natmirror.fastpath.flow_states import FlowState
from natmirror.findings import Finding, SendCode
from natmirror.linux.addresses import own_addresses
from natmirror.mirror.shown import SessionWait
from natmirror.reasons import EndReason
from natmirror.rules import CheckKind, Mirror, Service

SECTION = "packets that doctor has sent"
_OPEN = (FlowState.ESTABLISHED, FlowState.HALF_CLOSED, FlowState.CLOSING)
_OPENFLOW_PORTS = (6653, 6633)
_NO_DATA = "no data was sent: name some with --data"
_WAITS = sentences(SessionWait)
# Seconds
_SECOND_SYN_AFTER = 0.9  # Linux sends a SYN again after one
_COPIED_WITHIN = 3.5  # a leg sends SYNs after 0, 1 and 3 s
_POLL = 0.1
_NO_ANSWER = (
    "run: tcpdump -ni any host {address} and host {client}\nif nothing comes back, no firewall may drop SYNs on {name},"
    " and this has to name this host as the gateway (or set source for the mirror); there, run: ip route get {client}"
)


def send(subject: Subject, client: IPv4Address, data: bytes) -> list[Outcome]:
    """Call each service with a pool from ``client``; return what has become of each connection and of its copies.
    ``data`` is what to send to a service that does not speak OpenFlow."""
    outcomes: list[Outcome] = []
    try:
        services = _services(subject)
        _refuse_unless_free(subject, client)
        route = route_to(client)
        link = None if route.gateway is None and route.link == "lo" else route.link
        with ClientPort(client, [one.address for one in services], link) as port:
            for one in services:
                outcomes.extend(_called(subject, port, one, client, data))
    except NothingToCheckError as error:
        outcomes.append(_unmade(CheckState.SKIPPED, str(error)))
    except (NotCheckedError, HostError, OSError) as error:  # such as a natmirror that stops meanwhile
        outcomes.append(_unmade(CheckState.UNKNOWN, str(error)))
    return outcomes


def _unmade(state: CheckState, why: str) -> Outcome:
    return Outcome("send", SECTION, "services answer, and mirrors get their copies", state=state, why=why)


def _services(subject: Subject) -> list[Service]:
    """Return the services to call."""
    subject.need_rights()
    if subject.owner is None:
        raise NotCheckedError("natmirror does not run: start it, and then run natmirror doctor --send again")
    status = subject.run()
    if (pair := status["pair"]) is not None and pair["role"] != "master":
        raise NothingToCheckError("this host of the pair is not active")
    services = [one for one in subject.rules().services if one.pool is not None]
    if not services:
        raise NothingToCheckError("no service has a pool")
    return services


def _refuse_unless_free(subject: Subject, client: IPv4Address) -> None:
    flows = ask_list("flows", subject.api, client=client)
    known = {one["client"].rpartition(":")[0] for one in flows if one["state"] in _OPEN}
    if why := why_not_free(client, subject.rules(), own_addresses(), known):
        raise NotCheckedError(
            f"{client} cannot be doctor's client: {why}; name a free address of switches with --client"
        )


def _called(
    subject: Subject, port: ClientPort, service: Service, client: IPv4Address, data: bytes
) -> Iterator[Outcome]:
    answer = port.call(service.address, service.port, data, is_openflow=_is_likely_openflow(service, data))
    flow = _flow(subject, client, answer["port"])
    try:
        found = list(_production(service, client, answer, flow, port.link))
        yield Outcome(
            f"send-{service.name}",
            SECTION,
            f"service {service.name} answers",
            found,
            state_of(found),
            said="" if found else _said(client, answer, flow),
        )
        if answer["state"] == "open" and not answer["unacked"]:
            yield from _copies(subject, service, client, answer)
        else:
            for mirror in service.mirrors:
                yield Outcome(*_named(service, mirror), state=CheckState.UNKNOWN, why="there is nothing to copy")
    finally:
        port.hang_up()


def _speaks_openflow(service: Service) -> bool:
    health = service.pool.health if service.pool else None
    is_checked = health is not None and health.check is CheckKind.OPENFLOW
    return is_checked or any(mirror.speaks_openflow for mirror in service.mirrors)


def _is_likely_openflow(service: Service, data: bytes) -> bool:
    """Return whether to speak OpenFlow to a service: the rules say that it does, or else its port, if there is no data
    for it."""
    return _speaks_openflow(service) or (not data and service.port in _OPENFLOW_PORTS)


def _flow(subject: Subject, client: IPv4Address, port: int) -> dict[str, Any] | None:
    """Return the connection as natmirror shows it; None: it has not seen it."""
    flows: list[dict[str, Any]] = ask_list("flows", subject.api, client=f"{client}:{port}")
    return next(iter(flows), None)


def _backend(flow: dict[str, Any] | None) -> str:
    return "a backend" if flow is None or flow["backend"] is None else str(flow["backend"])


def _address(service: Service, backend: str) -> str:
    """Return a backend's address, for a command."""
    members = service.pool.members if service.pool else ()
    return next((str(one.address) for one in members if one.name == backend), "BACKEND")


def _said(client: IPv4Address, answer: dict[str, Any], flow: dict[str, Any] | None) -> str:
    time_needed = f"{1000 * answer['seconds']:.1f} ms"
    if answer["sent"]:
        return f"{_backend(flow)} answers {client} after {time_needed}, and acknowledges {answer['sent']} bytes"
    return f"{_backend(flow)} accepts a connection of {client} after {time_needed}; {_NO_DATA}"


def _production(
    service: Service, client: IPv4Address, answer: dict[str, Any], flow: dict[str, Any] | None, link: str | None
) -> Iterator[Finding]:
    """Yield what is wrong with the connection."""
    names: dict[str, Any] = {"service": service.name, "client": client, "backend": _backend(flow)}
    if answer["state"] == "unanswered" and flow is None:
        yield SendCode.SENT_NOT_SEEN.found(**names, interface=link or "INTERFACE")
    elif answer["state"] == "unanswered":
        yield SendCode.SENT_UNANSWERED.found(**names)
    elif answer["state"] == "refused":
        yield SendCode.SENT_REFUSED.found(**names)
    elif answer["state"] == "ended":
        yield SendCode.SENT_ENDED.found(**names, how=answer["how"], sent=answer["sent"])
    elif answer["unacked"]:
        yield SendCode.SENT_LOST.found(**names, size=answer["size"], address=_address(service, names["backend"]))
    elif answer["silent"]:
        yield SendCode.SENT_NO_REPLY.found(**names, what=answer["silent"])
    elif answer["seconds"] > _SECOND_SYN_AFTER:
        yield SendCode.SENT_LATE.found(**names, seconds=f"{answer['seconds']:.1f}")


def _named(service: Service, mirror: Mirror) -> tuple[str, str, str]:
    return f"send-{service.name}-{mirror.name}", SECTION, f"mirror {mirror.name} gets the copy for {service.name}"


def _copies(subject: Subject, service: Service, client: IPv4Address, answer: dict[str, Any]) -> Iterator[Outcome]:
    """Wait until the copies are delivered, and yield what has become of each."""
    until = time.monotonic() + _COPIED_WITHIN
    while True:
        flow = _flow(subject, client, answer["port"])
        legs = {one["mirror"]: one for one in flow["legs"]} if flow is not None else {}
        is_done = all(_is_delivered(legs.get(mirror.name), answer) for mirror in service.mirrors)
        if is_done or time.monotonic() > until:
            break
        time.sleep(_POLL)
    for mirror in service.mirrors:
        leg = legs.get(mirror.name)
        if leg is None and (why := _why_excluded(mirror, client)):
            yield Outcome(*_named(service, mirror), state=CheckState.SKIPPED, why=why)
            continue
        if leg is not None and leg["reason"] in {*SessionWait}:
            why = _WAITS[SessionWait(leg["reason"]).name]
            yield Outcome(*_named(service, mirror), state=CheckState.UNKNOWN, why=f"no session has begun: {why}")
            continue
        found = list(_copy(service, mirror, client, leg, answer))
        said = "" if leg is None or found else _said_of_copy(leg)
        yield Outcome(*_named(service, mirror), found, state_of(found), said=said)


def _said_of_copy(leg: dict[str, Any]) -> str:
    if not leg["client_bytes"]:
        return f"the leg to it is open; {_NO_DATA}"
    said = f"{leg['acked_bytes']} of {leg['client_bytes']} bytes acknowledged"
    return said if leg["session"] is None else f"the master has sent its HELLO, {said}"


def _why_excluded(mirror: Mirror, client: IPv4Address) -> str:
    if mirror.only and not any(client in network for network in mirror.only):
        return f"{client} is not among the clients of only"
    return "sample leaves some connections out" if mirror.sample < 1 else ""


def _is_delivered(leg: dict[str, Any] | None, answer: dict[str, Any]) -> bool:
    if leg is None or leg["reason"] is not None or leg["state"] == "syn-sent":
        return False
    is_answered = leg["session"] is None or leg["consumed_bytes"] > 0
    return is_answered and leg["acked_bytes"] == leg["client_bytes"] and (leg["client_bytes"] > 0 or not answer["sent"])


def _copy(
    service: Service, mirror: Mirror, client: IPv4Address, leg: dict[str, Any] | None, answer: dict[str, Any]
) -> Iterator[Finding]:
    """Yield what is wrong with a copy."""
    if _is_delivered(leg, answer):
        return
    names = {"name": mirror.name, "service": service.name, "address": mirror.address}
    if leg is not None and leg["reason"] is None and leg["state"] != "syn-sent":
        if leg["acked_bytes"] == leg["client_bytes"] and leg["session"] is not None:
            yield SendCode.MASTER_SILENT.found(**names)
            return
        yield SendCode.COPY_NOT_TAKEN.found(
            **names, count=leg["client_bytes"] - leg["acked_bytes"], total=leg["client_bytes"]
        )
        return
    reason = "" if leg is None or leg["reason"] is None else str(leg["reason"])
    if leg is None:
        why, mend = "natmirror has opened no leg for it", "see natmirror status for reasons and findings"
    elif reason:
        why = f"its leg has ended or waits, {reason}"
        mend = sentences(EndReason)[EndReason(reason).name].partition("\n\n")[2]
    else:
        why = "the mirror does not answer the SYN"
        mend = _NO_ANSWER.format(name=mirror.name, address=mirror.address, client=client)
    yield SendCode.COPY_UNANSWERED.found(**names, why=why, mend=mend)
