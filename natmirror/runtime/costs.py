"""What an operator's command costs, in connections and copies: a stop, and a reload before it is done."""

from collections.abc import Iterator
from typing import NamedTuple

from natmirror.mirror.ledger import identity
from natmirror.mirror.shown import FlowEntry
from natmirror.net.endpoint import endpoint_of, parse_endpoint
from natmirror.net.prefixes import ClientNetworks
from natmirror.rules import Mirror, Reconnect, Rules, Service
from natmirror.runtime.shown import RunSums


def cost_of_stop(sums: RunSums, *, keeps_rules: bool) -> str | None:
    """Return what becomes of the connections at a stop, or None without connections."""
    count = sum(backend["flows"] for backend in sums["backends"])
    if not count:
        return None
    if not keeps_rules:
        return (
            f"{connections(count)} to services with a pool will be cut, because the iptables rules go; with --on-stop"
            " keep they would wait for the next start"
        )
    pinned = sums["pinned_flows"]
    lost = f"; {pinned} of them are pinned and may be reset then (docs/interruptions.md)" if pinned else ""
    return f"{connections(count)} to services with a pool will wait for the next start{lost}"


def connections(count: int) -> str:
    """Return a number of connections as text."""
    return f"{count} connection{'' if count == 1 else 's'}"


class Loss(NamedTuple):
    """What a reload would cost a connection of a service."""

    service: str
    """The service's name."""
    one: str
    """The end of a sentence that begins with one connection."""
    several: str
    """The same for several connections."""


class ReloadCost:
    """What a reload of the rules ``new`` would cost connections that the rules ``old`` have."""

    def __init__(self, old: Rules, new: Rules) -> None:
        self._old = {service.name: service for service in old.services}
        self._named = {service.name: service for service in new.services}
        self._places = {endpoint_of(service): service for service in new.services}
        self._clients = ClientNetworks(new.switches)

    def losses(self, flow: FlowEntry) -> Iterator[Loss]:
        """Yield what a connection would lose."""
        before = self._old.get(flow["service"])
        if before is not None:  # else an earlier reload has removed it
            yield from (Loss(before.name, *words) for words in self._losses(flow, before))

    def _losses(self, flow: FlowEntry, before: Service) -> Iterator[tuple[str, str]]:
        if parse_endpoint(flow["client"])[0] not in self._clients:
            what = "reset" if before.pool is not None else "not copied any more"
            yield (
                f"is {what}, because switches no longer has its client",
                f"are {what}, because switches no longer has their clients",
            )
            return
        # The engines know a service and a backend by their endpoints, the ledger knows a mirror by its names.
        after = self._places.get(endpoint_of(before))
        if after is None:
            yield "goes on until it ends, without its service", "go on until they end, without their service"
        elif flow["backend"] is not None and flow["backend"] in _removed_backends(before, after):
            without = f"backend {flow['backend']}"
            yield f"goes on until it ends, without its {without}", f"go on until they end, without their {without}"
        mirrors = {mirror.name: mirror for mirror in self._mirrors_of(before.name)}
        former = {mirror.name: mirror for mirror in before.mirrors}
        for name in {leg["mirror"] for leg in flow["legs"] if leg["reason"] is None} & former.keys():
            if name not in mirrors or identity(mirrors[name]) != identity(former[name]):
                yield f"loses its copy to {name}", f"lose their copy to {name}"
        for name in mirrors.keys() - former.keys():
            if mirrors[name].reconnect is not Reconnect.NEVER:
                continue
            yield (
                f"gets no copy to {name}, because it began before it",
                f"get no copy to {name}, because they began before it",
            )

    def _mirrors_of(self, service: str) -> tuple[Mirror, ...]:
        return self._named[service].mirrors if service in self._named else ()


def _removed_backends(before: Service, after: Service) -> set[str]:
    """Return the names of the backends that a service no longer has."""
    kept = {endpoint_of(member) for member in after.pool.members} if after.pool else set()
    return {member.name for member in before.pool.members if endpoint_of(member) not in kept} if before.pool else set()
