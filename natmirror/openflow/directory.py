"""The known switches, and the switch of each open connection.

All data whose size a switch decides has a limit. Data beyond the limit is counted and not kept: a master that asks for
it is refused, as if the switch had never been asked.
"""

from collections import Counter
from ipaddress import IPv4Address
from math import isfinite
from typing import Any, Protocol

from natmirror.openflow.datapath import (
    ANY_PORT,
    ANY_PORTS,
    CONFIG,
    FEATURES,
    MAX_SAVED_LEN,
    PORT_COST,
    PORTS,
    Answer,
    Datapath,
    Key,
    Ports,
    SwitchId,
    cost_of,
    multipart_key,
    v15_port_key,
)
from natmirror.openflow.messages import HEADER_LEN, V10, V15, VERSIONS, Message, Type
from natmirror.openflow.ports import MAX_PORTS, V10_FEATURES_LEN, V10_MAX_PORTS, port_len, port_number, split_ports
from natmirror.reasons import NotKeptReason

_MAX_DATAPATHS = 16_384
_MAX_OF_CLIENT = _MAX_DATAPATHS // 16
"""Switches with one client address: a host may have many, such as an emulated network."""
SWITCH_COST = 860
"""Bytes that Python needs for a switch and its connection, besides the answers."""
_MAX_LEN = 4 << 20  # bytes of one switch's answers: the largest seen so far are table features, of 1.2 MB
_MAX_ANSWERS = 512
"""Limit on the answers of one switch: controllers repeat a few dozen requests."""
_MAX_PORTS_LEN = 1 << 20  # bytes of the ports of one switch
_UNSEEN_TIMEOUT = 600.0  # seconds until a restored connection without a packet is removed
_MAX_ANSWER_LEN = 0xFFFF - HEADER_LEN - 8  # bytes of a body, after a multipart message's headers
_BUDGET_FRACTION = 4  # answers may take 1/4 of the budget
_DELETED = 1  # OFPPR_DELETE


class SwitchMemory(Protocol):
    """The limit on memory, in bytes, as fastpath.ClientMemory keeps it."""

    @property
    def limit(self) -> int: ...

    @property
    def used(self) -> int: ...

    def holder_of(self, client: bytes) -> int:
        """Return the number of the client with this address."""

    def take(self, holder: int, count: int) -> bool:
        """Take ``count`` bytes for a client; return False if it may not hold them."""

    def give(self, holder: int, count: int) -> None:
        """Give ``count`` bytes back."""


class Directory:
    """The switches that one engine knows. They and their answers count in ``memory``, for their clients."""

    def __init__(self, memory: SwitchMemory) -> None:
        self.not_kept: Counter[NotKeptReason] = Counter()
        """Answers of switches that were not kept, by reason."""
        self._memory = memory
        self._used = 0
        self._unseen: dict[str, float] = {}  # connections that were restored and not seen yet, with the time
        self._behind: dict[str, Datapath] = {}  # by the name of an open connection
        self._datapaths: dict[SwitchId, Datapath] = {}
        # By the client's address; the last seen last
        self._of_clients: dict[str, dict[SwitchId, Datapath]] = {}

    def find(self, identity: SwitchId) -> Datapath | None:
        """Return a switch, or None."""
        return self._datapaths.get(identity)

    def enter(self, connection: str, datapath_id: int, auxiliary_id: int, version: int) -> Datapath:
        """Return the switch that has a connection, known or new. Answers in another version of OpenFlow are forgotten.

        If there are too many switches, forget one of this client, or of the client with the most. Without memory for
        another one, return a switch that is not known.
        """
        identity = SwitchId(_client_of(connection), datapath_id, auxiliary_id)
        known = self.find(identity)
        if known is not None and known.version != version:
            self.forget(known)
            known = None
        if known is None:
            self._make_room_for(identity)
            holder = self._memory.holder_of(IPv4Address(identity.address).packed)
            known = Datapath(identity, version, holder)
            if not self._take(known, SWITCH_COST):
                self.count_not_kept(NotKeptReason.NO_MEMORY)
                return known
            self._datapaths[identity] = known
        alike = self._of_clients.setdefault(identity.address, {})
        alike.pop(identity, None)
        alike[identity] = known  # the last seen last
        return known

    def _make_room_for(self, identity: SwitchId) -> None:
        """Forget a switch if there are too many. A switch without a connection goes first, the longest unseen."""
        alike = self._of_clients.get(identity.address, {})
        if len(alike) < _MAX_OF_CLIENT:
            if len(self._datapaths) < _MAX_DATAPATHS:
                return
            alike = max(self._of_clients.values(), key=len)
        unconnected = (datapath for datapath in alike.values() if datapath.connection is None)
        self.count_not_kept(NotKeptReason.TOO_MANY_SWITCHES)
        self.forget(next(unconnected, next(iter(alike.values()))))

    def forget(self, datapath: Datapath) -> None:
        """Forget a switch and free its memory."""
        self._give(datapath, datapath.used)
        datapath.answers.clear()
        datapath.used = 0
        identity = datapath.identity
        if self.find(identity) is not datapath:
            return
        if datapath.connection is not None:
            self.remove(datapath.connection)
        self._give(datapath, SWITCH_COST)
        del self._datapaths[identity]
        alike = self._of_clients[identity.address]
        del alike[identity]
        if not alike:
            del self._of_clients[identity.address]

    def count_not_kept(self, reason: NotKeptReason) -> None:
        self.not_kept[reason] += 1

    def learn(self, datapath: Datapath, key: Key, bodies: tuple[bytes, ...], now: float) -> None:
        """Keep a whole answer of a switch, if there is memory for it; drop older ones for it."""
        self._drop(datapath, key)
        answer = Answer(bodies, now)
        cost = cost_of(key, answer)
        if self.find(datapath.identity) is not datapath:
            return  # the switch was forgotten
        if cost > _MAX_LEN:
            self.count_not_kept(NotKeptReason.TOO_LONG)
            return
        while len(datapath.answers) >= _MAX_ANSWERS:
            self.count_not_kept(NotKeptReason.TOO_MANY_ANSWERS)
            self._drop(datapath, self._oldest(datapath))
        self._make_room(datapath, cost)
        if self._take(datapath, cost):
            datapath.answers[key] = answer
            datapath.used += cost
        else:
            self.count_not_kept(NotKeptReason.NO_MEMORY)

    def _make_room(self, datapath: Datapath, cost: int, key: Key | None = None) -> None:
        """Drop older answers until ``cost`` bytes more fit, but not the answer with this key."""
        while datapath.used + cost > _MAX_LEN and (oldest := self._oldest(datapath)) != key:
            self.count_not_kept(NotKeptReason.TOO_MANY_ANSWERS)
            self._drop(datapath, oldest)

    @staticmethod
    def _oldest(datapath: Datapath) -> Key:
        """Return the key of the answer to drop first. Features, configuration and ports come last."""
        return next(
            (key for key in datapath.answers if key not in (FEATURES, CONFIG, PORTS, ANY_PORTS)),
            next(iter(datapath.answers)),
        )

    def _drop(self, datapath: Datapath, key: Key) -> None:
        answer = datapath.answers.pop(key, None)
        if answer is not None:
            datapath.used -= cost_of(key, answer)
            self._give(datapath, cost_of(key, answer))

    def _take(self, datapath: Datapath, cost: int) -> bool:
        """Take memory within a fraction of the budget: legs need most of it, and short answers are worth more than long
        ones."""
        most = self._memory.limit // (_BUDGET_FRACTION if cost <= MAX_SAVED_LEN else 2 * _BUDGET_FRACTION)
        if self._used + cost > most or not self._memory.take(datapath.holder, cost):
            return False
        self._used += cost
        return True

    def _give(self, datapath: Datapath, cost: int) -> None:
        self._used -= cost
        self._memory.give(datapath.holder, cost)

    def port_changed(self, datapath: Datapath, status: Message, now: float) -> None:
        """Apply a PORT_STATUS to the ports that are kept."""
        described = status.raw[HEADER_LEN + 8 :]
        if (length := port_len(datapath.version, described, 0)) is None:
            return
        port = described[:length]
        number = port_number(datapath.version, port)
        new = None if status.body[0] == _DELETED else port
        if datapath.version == V15 and (alone := v15_port_key(number)) in datapath.answers and number != ANY_PORT:
            if new is None:
                self._drop(datapath, alone)
            else:
                self.learn(datapath, alone, (new,), now)
        key = FEATURES if datapath.version == V10 else ANY_PORTS if datapath.version == V15 else PORTS
        if key in datapath.answers and (ports := self._by_number(datapath, key)) is not None:
            self._change(datapath, key, ports, number, new, now)

    def _by_number(self, datapath: Datapath, key: Key) -> Ports | None:
        """Return an answer's ports by number. If there are too many, drop the answer and return None."""
        answer = datapath.answers[key]
        if isinstance(answer, Ports):
            return answer
        if answer.used > _MAX_PORTS_LEN:
            self._drop(datapath, key)
            self.count_not_kept(NotKeptReason.TOO_MANY_PORTS)
            return None
        whole = b"".join(answer.bodies)
        head = whole[: V10_FEATURES_LEN if datapath.version == V10 else 0]
        self._drop(datapath, key)
        try:
            known = split_ports(datapath.version, whole[len(head) :])
        except ValueError:
            self.count_not_kept(NotKeptReason.TOO_MANY_PORTS)
            return None
        ports = Ports(head, known, answer.at, sum(map(len, known.values())))
        cost = cost_of(key, ports)
        self._make_room(datapath, cost)
        if not self._take(datapath, cost):
            self.count_not_kept(NotKeptReason.NO_MEMORY)
            return None
        datapath.answers[key] = ports
        datapath.used += cost
        return ports

    def _change(self, datapath: Datapath, key: Key, ports: Ports, number: int, new: bytes | None, now: float) -> None:
        """Change, add or remove one port of an answer."""
        ports.at = now
        datapath.answers.move_to_end(key)
        old = ports.ports.get(number)
        count = len(ports.ports) - (old is not None) + (new is not None)
        length = ports.length - len(old or b"") + len(new or b"")
        if ports.head and count > V10_MAX_PORTS:
            self.count_not_kept(NotKeptReason.TOO_MANY_PORTS)
            return  # a message of the switch itself would have no room for the port either
        more = length - ports.length + PORT_COST * (count - len(ports.ports))
        self._make_room(datapath, more, key)
        if count > MAX_PORTS or length > _MAX_PORTS_LEN or datapath.used + more > _MAX_LEN:
            self.count_not_kept(NotKeptReason.TOO_MANY_PORTS)
            self._drop(datapath, key)
            return
        if more <= 0:
            self._give(datapath, -more)
        elif not self._take(datapath, more):
            self.count_not_kept(NotKeptReason.NO_MEMORY)
            self._drop(datapath, key)
            return
        datapath.used += more
        ports.length = length
        if new is not None:
            ports.ports[number] = new
        else:
            ports.ports.pop(number, None)

    def set_switch(self, connection: str, datapath: Datapath) -> None:
        """Set the switch of an open connection, which becomes the switch's latest one."""
        self.remove(connection)
        if datapath.connection is not None:
            self.remove(datapath.connection)
        if self.find(datapath.identity) is datapath:
            self._behind[connection], datapath.connection = datapath, connection

    def remove(self, connection: str) -> None:
        """Remove a connection that has ended."""
        datapath = self._behind.pop(connection, None)
        if datapath is not None:
            datapath.connection = None
        self._unseen.pop(connection, None)

    def release(self, now: float) -> None:
        """Note that another host passes all connections from now on: keep their switches until that host reports
        others."""
        for connection in self._behind:
            self._unseen.setdefault(connection, now)

    def begin_again(self, connection: str, now: float) -> None:
        """Note that a connection begins again here: keep its switch, as a restored one, until a packet shows that it
        goes on."""
        if connection in self._behind:
            self._unseen.setdefault(connection, now)

    def switch_of(self, connection: str) -> Datapath | None:
        """Return the switch of a connection, or None."""
        return self._behind.get(connection)

    def connections(self, now: float) -> list[str]:
        """Return the latest connection of each switch that has one.

        A restored connection without a packet within ten minutes is removed.
        """
        for connection in [one for one, at in self._unseen.items() if now - at > _UNSEEN_TIMEOUT]:
            self.remove(connection)
        return list(self._behind)

    def seen(self) -> list[str]:
        """Return these connections, except restored ones without a packet so far."""
        return [connection for connection in self._behind if self._is_seen(connection)]

    def _is_seen(self, connection: str | None) -> bool:
        return connection in self._behind and connection not in self._unseen

    def adopt(self, entry: dict[str, Any], now: float) -> None:
        """Restore the switch of another host's connection, unless this host has seen packets of the connection or of
        another one of the switch; KeyError, TypeError or ValueError where the entry is malformed."""
        connection = str(entry["client"])
        known = self.find(SwitchId(_client_of(connection), entry["datapath_id"], entry["auxiliary_id"]))
        if not self._is_seen(connection) and (known is None or not self._is_seen(known.connection)):
            self.restore(entry, now)

    def withdraw(self, connection: str) -> None:
        """Remove a connection that the other host has removed, unless this host has seen packets of it."""
        if connection in self._unseen:
            self.remove(connection)

    def plain(self, connection: str, now: float) -> dict[str, Any] | None:
        """Return a connection's switch as values for JSON, or None."""
        datapath = self.switch_of(connection)
        return None if datapath is None else datapath.plain(now)

    def restore(self, entry: dict[str, Any], now: float) -> None:
        """Restore a connection's switch from an entry that plain() returned; KeyError, TypeError or ValueError where
        the entry is malformed."""
        answers = []
        try:
            ids = (int(entry["datapath_id"]), int(entry["auxiliary_id"]))
            for kind, multipart, body, age, bodies in entry["answers"]:
                key = (Type(kind), int(multipart), bytes.fromhex(body))
                if key[0] is Type.MULTIPART_REPLY:
                    key = multipart_key(int(entry["version"]), *key[1:])
                answers.append((key, tuple(bytes.fromhex(one) for one in bodies), now - max(0.0, float(age))))
        except OverflowError as error:
            raise ValueError(str(error)) from None
        is_possible = all(bodies and max(map(len, bodies)) <= _MAX_ANSWER_LEN for _, bodies, _ in answers)
        are_numbers_possible = (
            entry["version"] in VERSIONS
            and 0 <= ids[0] < 1 << 64
            and 0 <= ids[1] < 1 << 8
            and all(-1 <= key[1] < 1 << 16 and isfinite(at) for key, _, at in answers)
        )
        if not are_numbers_possible or not is_possible:
            raise ValueError("the version, a number or an answer of the switch is impossible")
        connection = str(entry["client"])
        datapath = self.enter(connection, *ids, int(entry["version"]))
        self.set_switch(connection, datapath)
        self._unseen[connection] = now
        for key, known, at in answers:
            self.learn(datapath, key, known, at)


def _client_of(connection: str) -> str:
    """Return the service and the address of a connection's client."""
    return connection.rpartition(":")[0]
