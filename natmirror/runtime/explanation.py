"""Gathers what ``natmirror explain`` answers: from the packet thread that has the client, from the backends' states and
from the rules file on disk; or, for a rules file alone, from a fresh engine."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address

from natmirror.backends.admission import Admission
from natmirror.backends.shown import AdmissionEntry
from natmirror.engine.engine import Engine
from natmirror.engine.explained import ConnectionEntry, NewConnectionEntry
from natmirror.errors import HostError, NatmirrorError
from natmirror.linux.addresses import own_addresses
from natmirror.linux.iptables_rules import NAT_QUEUE, WATCH_QUEUE, queue_number
from natmirror.net.endpoint import parse_client
from natmirror.net.prefixes import ClientNetworks
from natmirror.replication.synchroniser import SyncState
from natmirror.rules import Rules
from natmirror.rules.shards import Shard
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.costs import ReloadCost
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.explained import AddressEntry, AddressKind, ExplainAnswer, ExplainedConnection, ExplainedService
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.interruptions import Situation
from natmirror.runtime.reloader import Reloader

_MOST_CONNECTIONS = 100
_FILE_TIMEOUT = 3.0  # seconds

_ALONE = Situation(keeps_rules=True, is_in_pair=False, is_active=True, shared_state=SyncState.OFF)

_States = dict[tuple[str, str], AdmissionEntry]


class Explainer:
    """Explains a running natmirror, from any thread."""

    def __init__(
        self,
        engines: Sequence[EngineProxy],
        reloader: Reloader,
        maintenance: HostMaintenance,
        backends: BackendControl,
        situation: Callable[[], Situation],
    ) -> None:
        self._engines = engines
        self._reloader = reloader
        self._maintenance = maintenance
        self._backends = backends
        self._situation = situation
        self._seen: tuple[tuple[int, ...], Rules, Rules | NatmirrorError] | None = None

    def explain(self, client: str, service: str | None) -> ExplainAnswer:
        """Return what natmirror does with a client's connections to a service, or to all. ValueError where ``client``
        is no address or endpoint, or there is no such service; TimeoutError where a thread does not answer."""
        rules, situation = self._reloader.rules, self._situation()
        (address, port), shard = _question(rules, client, service, len(self._engines))
        engine = self._engines[shard.number]
        foreseen = engine.foresee(address, port, service)
        connections, count = engine.connections_of(address, port, _MOST_CONNECTIONS)
        wanted = [one for one in connections if service in (None, one["service"])]
        cost, refused = None, None
        if wanted:
            cost, refused = self._cost_of_reload(rules)
        return {
            **_answer(rules, client, shard, foreseen, self._backends.states(), situation),
            "running": True,
            "connections": [_explained(one, rules, situation, cost) for one in wanted],
            "connection_count": count - (len(connections) - len(wanted)),
            "reload_refused": refused,
        }

    def _cost_of_reload(self, rules: Rules) -> tuple[ReloadCost | None, str | None]:
        """Return what a reload would cost, or why it would be refused."""
        try:
            return ReloadCost(rules, self._maintenance.thread.ask(self._foresee, _FILE_TIMEOUT)), None
        except TimeoutError:
            return None, "natmirror cannot read it now: its maintenance thread is busy"
        except NatmirrorError as error:
            return None, str(error)

    def _foresee(self) -> Rules:
        return self._reloader.foresee(self._read_file())

    def _read_file(self) -> Rules:
        """Return the rules in the file, as Reloader.read() does, in the same thread. Parse the file again only after it
        or the rules that run have changed: not only operators may ask, and often (``api`` in the rules)."""
        running = self._reloader.loaded  # with overrides ``rules`` is another value each time
        try:
            found = os.stat(running.path)
        except OSError:
            return self._reloader.read()
        state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        if self._seen is None or self._seen[0] != state or self._seen[1] is not running:
            try:
                self._seen = state, running, self._reloader.read()
            except NatmirrorError as error:
                self._seen = state, running, error
        if isinstance(self._seen[2], NatmirrorError):
            raise self._seen[2].with_traceback(None)  # else it would grow with each raise
        return self._seen[2]


def explain_rules(rules: Rules, threads: int, client: str, service: str | None) -> ExplainAnswer:
    """Return what natmirror would do with a client's connections after a start with these rules and this number of
    threads. ValueError as for Explainer.explain()."""
    (address, port), shard = _question(rules, client, service, threads)
    engine = Engine(replace(rules, max_flows=1), key=bytes(16), shard=shard)
    foreseen = engine.explanation.foresee(address, port, service, 0.0)
    return {
        **_answer(rules, client, shard, foreseen, Admission(rules, 0.0).show(0.0), _ALONE),
        "running": False,
        "connections": [],
        "connection_count": 0,
        "reload_refused": None,
    }


def _question(rules: Rules, client: str, service: str | None, threads: int) -> tuple[tuple[bytes, int | None], Shard]:
    """Return the client's address and port, and the shard that has it."""
    address, port = parse_client(client)
    names = [one.name for one in rules.services]
    if service is not None and service not in names:
        raise ValueError(f"there is no service {service}; the rules have {', '.join(names)}")
    return (address, port), Shard(address[-1] & (threads - 1), threads)


def _answer(
    rules: Rules,
    client: str,
    shard: Shard,
    foreseen: Iterable[NewConnectionEntry],
    states: _States,
    situation: Situation,
) -> ExplainAnswer:
    """Return an answer without connections."""
    address = IPv4Address(client.partition(":")[0])
    watches = any(service.pool is None for service in rules.services)
    queues = (NAT_QUEUE, WATCH_QUEUE) if watches else (NAT_QUEUE,)
    return {
        "client": client,
        "in_switches": address.packed in ClientNetworks(rules.switches),
        "address_is": [*_in_rules(rules, address), *_on_host(address)],
        "running": False,
        "active": situation.is_active,
        "shared_state": situation.shared_state,
        "thread": shard.number,
        "queues": [queue_number(queue, shard) for queue in queues],
        "services": [_service(one, states) for one in foreseen],
        "connections": [],
        "connection_count": 0,
        "reload_refused": None,
    }


def _service(foreseen: NewConnectionEntry, states: _States) -> ExplainedService:
    named = {name: state for (service, name), state in states.items() if service == foreseen["service"]}
    return {**foreseen, "states": named}


def _explained(
    connection: ConnectionEntry, rules: Rules, situation: Situation, cost: ReloadCost | None
) -> ExplainedConnection:
    service = next((one for one in rules.services if one.name == connection["service"]), None)
    is_over = connection["is_over"]
    return {
        **connection,
        "restart": None if is_over else situation.restart(connection, service),
        "stop": None if is_over else situation.stop(connection, service),
        "move": None if is_over or not situation.is_in_pair else situation.move(connection, service),
        "reload": [] if is_over or cost is None else [loss.one for loss in cost.losses(connection)],
    }


def _in_rules(rules: Rules, address: IPv4Address) -> list[AddressEntry]:
    """Return the services, backends and mirrors of the rules that have an address."""
    found: list[AddressEntry] = []
    for service in rules.services:
        members = () if service.pool is None else service.pool.members
        kinds = (
            *((AddressKind.SERVICE, service.name, service.address),),
            *((AddressKind.BACKEND, f"{service.name}/{one.name}", one.address) for one in members),
            *((AddressKind.MIRROR, f"{service.name}/{one.name}", one.address) for one in service.mirrors),
        )
        found += [{"kind": kind, "name": name} for kind, name, own in kinds if own == address]
    return found


def _on_host(address: IPv4Address) -> list[AddressEntry]:
    with suppress(HostError):  # without netlink: the answer leaves this out
        if address in own_addresses() or address.is_loopback:
            return [{"kind": AddressKind.THIS_HOST, "name": ""}]
    return []
