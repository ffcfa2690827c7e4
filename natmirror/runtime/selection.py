"""Which rows of a list a client of the API wants.

The cheapest tests come first, where packets pass: C looks for the clients, and to note a flow costs far more than to
look at its service, backend and state. The thread that asks does the rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Any

from natmirror.api.values import closest, parse_client
from natmirror.engine.shown import Snapshot
from natmirror.fastpath import Clients
from natmirror.fastpath.flow_states import SHOWN_STATES, State
from natmirror.mirror.shown import FlowEntry, LegEntry
from natmirror.net.endpoint import Endpoint, parse_endpoint


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a client of the API may give, and those that it means if it gives others."""

    services: frozenset[str]
    backends: frozenset[tuple[str, str]]
    mirrors: frozenset[tuple[str, str]]

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError where one of the names is none of these."""
        service = arguments.get("service")
        if service is not None and service not in self.services:
            raise ValueError(f"there is no service {service:.70}: {closest(service, sorted(self.services))}")
        for what, known in (("backend", self.backends), ("mirror", self.mirrors)):
            names = {name for of, name in known if service in (None, of)}
            if (name := arguments.get(what)) is not None and name not in names:
                raise ValueError(f"there is no {what} {name:.70}: {closest(name, sorted(names))}")


def names_in(snapshots: Sequence[Snapshot]) -> Names:
    """Return the names that the engines' snapshots have."""
    backends = frozenset((one["service"], one["name"]) for snapshot in snapshots for one in snapshot["backends"])
    mirrors = frozenset((one["service"], one["name"]) for snapshot in snapshots for one in snapshot["mirrors"])
    return Names(frozenset(service for service, _ in backends | mirrors), backends, mirrors)


def check_word(word: str | None, what: str, kind: Iterable[StrEnum]) -> None:
    """Raise ValueError where a word is none of an enumeration."""
    words = [str(one) for one in kind]
    if word is not None and word not in words:
        raise ValueError(f"there is no {what} {word:.70}: {closest(word, words)}")


class ClientFilter:
    """Which clients are wanted: those of a network, or of one port. ``text`` is None for all, else a value of the type
    Client."""

    def __init__(self, text: str | None) -> None:
        network, self._port = (IPv4Network("0.0.0.0/0"), None) if text is None else parse_client(text)
        self._network, self._mask = int(network.network_address), int(network.netmask)

    @property
    def clients(self) -> Clients:
        """The clients that are wanted."""
        return Clients(self._network, self._mask, self._port or 0)

    def takes(self, client: Endpoint) -> bool:
        """Return whether the client is wanted."""
        return int.from_bytes(client[0]) & self._mask == self._network and self._port in (None, client[1])


class Selection:
    """The flows or legs that are wanted. ``arguments`` may have ``client``, ``service``, ``backend``, ``mirror``,
    ``state`` and ``lagging``; of legs, ``state`` is the leg's."""

    def __init__(self, arguments: Mapping[str, Any], *, of_legs: bool) -> None:
        self._client = ClientFilter(arguments.get("client"))
        self._service = arguments.get("service")
        self._backend = arguments.get("backend")
        self._mirror = arguments.get("mirror")
        self._flow_state = None if of_legs else arguments.get("state")
        self._leg_state = arguments.get("state") if of_legs else None
        self._lagging = arguments.get("lagging")

    @property
    def clients(self) -> Clients:
        """The clients whose flows are wanted."""
        return self._client.clients

    @property
    def of_kinds(self) -> Callable[[str, str | None, State], bool] | None:
        """The function that returns whether flows of a service, a backend and a state may be wanted; None: all may."""
        is_any = self._service is self._backend is self._flow_state is None
        return None if is_any else self._may_take

    def _may_take(self, service: str, backend: str | None, state: State) -> bool:
        return (
            self._service in (None, service)
            and self._backend in (None, backend)
            and self._flow_state in (None, SHOWN_STATES[state])
        )

    def takes(self, flow: FlowEntry) -> bool:
        """Return whether a flow is wanted."""
        return (
            self._client.takes(parse_endpoint(flow["client"]))
            and self._service in (None, flow["service"])
            and self._backend in (None, flow["backend"])
            and self._flow_state in (None, flow["state"])
            and ((self._mirror is None and self._lagging is None) or any(map(self.takes_leg, flow["legs"])))
        )

    def takes_leg(self, leg: LegEntry) -> bool:
        """Return whether a leg of a flow that is wanted is wanted too."""
        lags = self._lagging is None or (leg["lag_bytes"] > 0 and leg["lag_seconds"] >= self._lagging)
        return lags and self._mirror in (None, leg["mirror"]) and self._leg_state in (None, leg["state"])
