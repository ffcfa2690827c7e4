"""What the operator, keepalived and the other host of a pair do with an engine, while hostile peers send."""

import json
from typing import Any

from natmirror.engine.engine import Engine
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, CLAIM_SEEN, RELEASE
from natmirror.net.endpoint import show
from natmirror.rules import Override, OverrideKind, Overrides, Rules, place_of
from tests.helpers.hostile.moves import Move
from tests.helpers.hostile.peers import Peers
from tests.helpers.hostile.setting import BACKENDS, MIRRORS, SERVICES

_MAX_CHANGES = 4  # of bindings that are kept: few, so that some are missed
_SLICE, _ALL = 3, 1 << 20  # flows


class Commands:
    """Commands for one host: with which rules it may be reloaded, and which records were read from it."""

    def __init__(self, variants: list[Rules]) -> None:
        self._variants = variants
        self._legs: list[dict[str, Any]] = []
        self._switches: list[dict[str, Any]] = []
        self.moves: dict[Move, int] = {
            self.reload: 3,
            self.kill: 2,
            self.set_share: 2,
            self.release_flows: 1,
            self.change_role: 3,
            self.read_records: 4,
            self.adopt_record: 6,
            self.withdraw_record: 1,
            self.sweep: 3,
            self.adopt_binding: 4,
            self.adopt_switch: 2,
            self.show: 2,
        }
        """The moves and their weights."""

    @staticmethod
    def log_bindings(engine: Engine) -> None:
        """Make an engine log the changes of its bindings, as in a pair."""
        engine.bindings.log_changes(_MAX_CHANGES)

    # The operator

    def reload(self, peers: Peers) -> None:
        """Reload with other rules, or with a paused mirror, with all steps or some."""
        host, rules = peers.host, peers.random.choice(self._variants)
        mirrors = [(service, mirror) for service in rules.services for mirror in service.mirrors]
        if mirrors and peers.random.random() < 0.3:
            service, mirror = peers.random.choice(mirrors)
            pause = Override(OverrideKind.PAUSE, service.name, mirror.name, place_of(mirror), 0.0)
            rules = Overrides({pause.key: pause}).applied(rules)
        if peers.random.random() < 0.7:
            host.send(lambda engine: engine.expel(rules.switches, engine.flow_ids(), host.now))
        host.both(lambda engine: engine.bindings.take_changes())
        host.both(lambda engine: engine.reload(rules))
        if peers.random.random() < 0.7:
            host.both(lambda engine: engine.bindings.sweep(0, _ALL, 0, host.now))
            host.send(lambda engine: engine.end_removed(engine.leg_ids(), host.now))
            host.send(lambda engine: engine.follow_mirrors(engine.flow_ids(), host.now))
            host.both(lambda engine: engine.bindings.take_changes())
            host.both(lambda engine: engine.prune())

    def kill(self, peers: Peers) -> None:
        """Reset the connections of a backend that failed, or repeat the RSTs."""
        host = peers.host
        service, backend = peers.random.choice((("a", "c1"), ("a", "m"), ("o", "c1"), ("nat", "c2"), ("watched", "c1")))
        if peers.random.random() < 0.7:
            sends = host.command(lambda engine: engine.kill(service, backend, engine.flow_ids(), host.now))
        else:
            sends = host.command(lambda engine: engine.repeat_resets(service, backend, engine.flow_ids(), host.now))
        if not isinstance(sends, str):
            host.note(sends)

    def set_share(self, peers: Peers) -> None:
        """Drain a backend, or open it again."""
        service, backend = peers.random.choice((("a", "c1"), ("a", "m"), ("o", "c1"), ("nat", "c1"), ("nat", "c2")))
        share, weight = peers.random.choice((0.0, 0.0, 0.5, 1.0)), peers.random.choice((None, None, 1, 7))
        peers.host.command(lambda engine: engine.set_share(service, backend, share, weight))
        mtu = peers.random.choice((576, 1500, 9000))
        peers.host.both(lambda engine: engine.set_path_mtu(MIRRORS[0], mtu))
        peers.host.both(lambda engine: engine.take_failed_syns())

    def show(self, peers: Peers) -> None:
        """Read all that is shown."""
        host = peers.host
        host.both(lambda engine: engine.flows(host.now))
        host.both(lambda engine: engine.lingering(host.now))
        host.both(lambda engine: [kept.show(host.now) for kept in engine.decisions(engine.flow_ids())])
        host.both(lambda engine: engine.take_events())
        host.both(lambda engine: engine.take_orders())

    # Roles

    def release_flows(self, peers: Peers) -> None:
        """Release flows to another active host."""
        host = peers.host
        host.send(lambda engine: engine.release_flows(engine.flow_ids(), host.now))

    def change_role(self, peers: Peers) -> None:
        """Become standby or active, or release all legs and take them over again by their records."""
        host, chance = peers.host, peers.random.random()
        if chance < 0.3:
            self.read_records(peers)
        if chance < 0.7:
            host.both(lambda engine: engine.replicated_legs.release())
        if chance < 0.4:
            for record in self._legs:
                self._adopt(peers, record)
        if not 0.3 < chance < 0.5:
            host.both(lambda engine: engine.replicated_legs.take_over(host.now))
        host.pass_time(0.0)
        peers.answer_legs()

    # Records of legs

    def read_records(self, peers: Peers) -> None:
        """Read the host's own records, as the store would keep them."""

        def read(engine: Engine) -> Any:
            legs, everything = engine.replicated_legs, peers.host.now % 2 < 1
            records = legs.records(legs.ids(), everything=everything)
            return json.loads(json.dumps([records, legs.take_withdrawn(), self._plain_switches(peers, engine)]))

        records, _, switches = peers.host.both(read)
        self._legs = (self._legs + records)[-10:]
        self._switches = (self._switches + switches)[-10:]

    @staticmethod
    def _plain_switches(peers: Peers, engine: Engine) -> list[Any]:
        now, directory = peers.host.now, engine.directory
        known = [directory.plain(client, now) for client in [*directory.connections(now), *directory.seen()]]
        return [one for one in known if one is not None]

    def adopt_record(self, peers: Peers) -> None:
        """Adopt or renew a record of the host itself, as it was, altered, or sealed again after a change."""
        if not self._legs:
            return
        self._adopt(peers, self._record(peers))
        peers.host.pass_time(0.0)

    @staticmethod
    def _adopt(peers: Peers, record: dict[str, Any]) -> None:
        peers.host.command(lambda engine: engine.replicated_legs.adopt(record, peers.host.now))

    def _record(self, peers: Peers) -> dict[str, Any]:
        draw = peers.random
        record: dict[str, Any] = json.loads(json.dumps(draw.choice(self._legs)))
        if draw.random() < 0.5:
            return record
        of = draw.choice((record, draw.choice(record["legs"])))
        name = draw.choice(list(of))
        of[name] = draw.choice((None, -1, 0, 1 << 31, 1 << 40, "", "10.10.0.11:40000", [], {}, of[name]))
        return record

    def withdraw_record(self, peers: Peers) -> None:
        """Withdraw a record."""
        if not self._legs:
            return
        record = peers.random.choice(self._legs)
        peers.host.command(lambda engine: engine.replicated_legs.withdraw(record["service"], record["client"]))

    # Bindings and switches

    def sweep(self, peers: Peers) -> None:
        """Sweep a slice of the flows in one of the ways, and take the changes."""
        host, draw = peers.host, peers.random
        how, first = draw.choice((0, ANNOUNCE, CLAIM_SEEN, CLAIM_ALL, RELEASE)), draw.choice((0, 0, 1, 5))
        host.both(lambda engine: engine.bindings.sweep(first, _SLICE, how, host.now))
        host.both(lambda engine: engine.bindings.take_changes())

    def adopt_binding(self, peers: Peers) -> None:
        """Adopt or withdraw a binding of another host, possible or not."""
        host, draw = peers.host, peers.random
        service = draw.choice(("a", "o", "nat", "watched", "unknown"))
        client, backend = draw.choice(peers.clients), draw.choice([*BACKENDS, *SERVICES, client_like(peers)])
        if draw.random() < 0.6:
            host.both(lambda engine: engine.bindings.adopt(service, client, backend, host.now))
        else:
            ended = draw.random() < 0.5
            host.both(lambda engine: engine.bindings.withdraw(service, client, host.now, ended=ended))

    def adopt_switch(self, peers: Peers) -> None:
        """Adopt or withdraw a known switch of another host, as it was or altered."""
        if not self._switches:
            return
        host, draw = peers.host, peers.random
        entry: dict[str, Any] = json.loads(json.dumps(draw.choice(self._switches)))
        entry["client"] = draw.choice((entry["client"], f"a/{show(draw.choice(peers.clients))}"))
        if draw.random() < 0.3:
            name = draw.choice(list(entry))
            entry[name] = draw.choice((1, 4, "", [], 1 << 70))

        def adopt(engine: Engine) -> str:
            try:
                engine.directory.adopt(entry, host.now)
            except (KeyError, TypeError, ValueError) as error:
                return repr(error)
            return ""

        host.both(adopt)
        if draw.random() < 0.2:
            host.both(lambda engine: engine.directory.withdraw(str(entry["client"])))


def client_like(peers: Peers) -> tuple[bytes, int]:
    """Return an endpoint that no backend can have: a client's."""
    return peers.random.choice(peers.clients)
