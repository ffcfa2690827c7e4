"""The known switches: their bounds, their ports after PORT_STATUS, and their restoration after a restart."""

import json
import tracemalloc
from itertools import starmap

import pytest

from natmirror.fastpath import NO_HOLDER
from natmirror.openflow import directory as module
from natmirror.openflow.datapath import (
    CONFIG,
    FEATURES,
    PORTS,
    Answer,
    Datapath,
    Key,
    cost_of,
    multipart_key,
)
from natmirror.openflow.directory import SWITCH_COST, Directory, SwitchMemory
from natmirror.openflow.messages import V10, V13, V14, V15, Multipart, Type, build, parse
from natmirror.openflow.ports import MAX_PORTS, split_ports
from natmirror.reasons import NotKeptReason
from tests.helpers.openflow import (
    ALL,
    ANY_PORT,
    CONNECTION,
    DPID,
    client_memory,
    features,
    multipart,
    port,
    port_status,
    switch_id,
    understood,
)

ADD, DELETE, MODIFY = 0, 1, 2
LIMIT = 4 << 20
FLOWS: Key = (Type.MULTIPART_REPLY, Multipart.FLOW, b"all")
DESC = (Type.MULTIPART_REPLY, 0, b"")


def key_of_ports(version: int) -> Key:
    """Return the key for all ports; in 1.5 the request has a port number."""
    if version == V10:
        return FEATURES
    return PORTS if version < V15 else (*PORTS[:2], ANY_PORT.to_bytes(4, "big") + bytes(4))


def known(version: int, *numbers: int) -> tuple[Directory, Datapath]:
    """Return a directory with one switch that has ports."""
    directory = Directory(client_memory(1 << 30))
    datapath = directory.enter(CONNECTION, DPID, 0, version)
    ports = b"".join(port(version, number) for number in numbers)
    head = features(version, 1)[8:]
    directory.learn(datapath, FEATURES, (head + ports,) if version == V10 else (head,), 1.0)
    if version != V10:
        directory.learn(datapath, key_of_ports(version), (ports,), 1.0)
    return directory, datapath


def change(directory: Directory, datapath: Datapath, reason: int, described: bytes) -> None:
    directory.port_changed(datapath, parse(port_status(datapath.version, reason, described)), 2.0)


def ports_of(datapath: Datapath) -> dict[int, str]:
    """Return the names of ports by number, as os-ken parses them."""
    version, answer = datapath.version, datapath.answers[key_of_ports(datapath.version)]
    found: dict[int, str] = {}
    for body in answer.bodies:
        if version == V10:
            described = understood(build(V10, Type.FEATURES_REPLY, 1, body)).ports.values()
        else:
            described = understood(multipart(version, 1, 13, body)).body
        found |= {one.port_no: one.name.rstrip(b"\0").decode() for one in described}
    return found


def adds_up(directory: Directory, memory: SwitchMemory) -> bool:
    datapaths = directory._datapaths.values()
    assert len(datapaths) == sum(map(len, directory._of_clients.values()))
    assert all(one.used == sum(starmap(cost_of, one.answers.items())) for one in datapaths)
    return memory.used == sum(SWITCH_COST + one.used for one in datapaths)


@pytest.mark.parametrize("version", ALL)
def test_ports_follow_port_status(version: int) -> None:
    directory, datapath = known(version, 1, 2)
    change(directory, datapath, ADD, port(version, 3))
    change(directory, datapath, MODIFY, port(version, 1, "new"))
    assert list(ports_of(datapath).items()) == [(1, "new"), (2, "eth2"), (3, "eth3")]
    change(directory, datapath, DELETE, port(version, 2))
    change(directory, datapath, DELETE, port(version, 9))
    assert ports_of(datapath) == {1: "new", 3: "eth3"}
    assert datapath.answers[key_of_ports(version)].at == 2.0
    if version == V10:
        assert datapath.answers[FEATURES].bodies[0][:24] == features(V10, 1)[8:]


@pytest.mark.parametrize("version", ALL)
def test_a_switch_may_lose_all_ports_and_get_others(version: int) -> None:
    directory, datapath = known(version, 1)
    change(directory, datapath, DELETE, port(version, 1))
    assert ports_of(datapath) == {}
    change(directory, datapath, ADD, port(version, 5))
    assert ports_of(datapath) == {5: "eth5"}


def test_the_answer_for_a_single_port_changes_too() -> None:
    directory, datapath = known(V15, 1, 2)
    alone: Key = (*PORTS[:2], (2).to_bytes(4, "big") + bytes(4))
    directory.learn(datapath, alone, (port(V15, 2),), 1.0)
    change(directory, datapath, MODIFY, port(V15, 1, "other"))
    assert datapath.answers[alone] == Answer((port(V15, 2),), 1.0)
    change(directory, datapath, MODIFY, port(V15, 2, "new"))
    assert datapath.answers[alone] == Answer((port(V15, 2, "new"),), 2.0)
    change(directory, datapath, DELETE, port(V15, 2))
    assert alone not in datapath.answers
    change(directory, datapath, ADD, port(V15, 2))
    assert alone not in datapath.answers
    assert ports_of(datapath) == {1: "other", 2: "eth2"}


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("body_len", [0, 1, 7, 8, 12, 40, 47, 50, 63])
def test_a_status_that_is_too_short_changes_nothing(version: int, body_len: int) -> None:
    directory, datapath = known(version, 1)
    before = dict(datapath.answers)
    raw = port_status(version, MODIFY, port(version, 1, "new"))
    if 8 + body_len >= len(raw):
        return
    cut_off = raw[:2] + (8 + body_len).to_bytes(2, "big") + raw[4 : 8 + body_len]
    directory.port_changed(datapath, parse(cut_off), 2.0)
    assert (datapath.answers == before) or (version == V10 and body_len >= 56)


@pytest.mark.parametrize("version", ALL)
def test_bytes_after_a_port_are_ignored(version: int) -> None:
    directory, datapath = known(version, 1, 2)
    change(directory, datapath, MODIFY, port(version, 1, "new") + b"more of it")
    assert ports_of(datapath) == {1: "new", 2: "eth2"}


@pytest.mark.parametrize("version", [V13, V14])
def test_many_ports_take_several_messages(version: int) -> None:
    directory, datapath = known(version)
    for number in range(1, 2001):
        change(directory, datapath, ADD, port(version, number))
    assert len(ports_of(datapath)) == 2000
    assert max(map(len, datapath.answers[PORTS].bodies)) <= 60_000


def test_features_of_1_0_are_one_message_with_as_many_ports_as_it_holds() -> None:
    directory, datapath = known(V10, *range(1, 1361))
    change(directory, datapath, MODIFY, port(V10, 1360, "new"))
    assert len(datapath.answers[FEATURES].bodies) == 1
    assert ports_of(datapath)[1360] == "new"
    assert len(ports_of(datapath)) == 1360
    for number in range(1361, 1400):
        change(directory, datapath, ADD, port(V10, number))
    (body,) = datapath.answers[FEATURES].bodies
    assert len(body) + 8 <= 0xFFFF
    assert len(ports_of(datapath)) == (0xFFFF - 32) // 48


@pytest.mark.parametrize("version", ALL)
def test_ports_of_a_wrong_length_end_the_list(version: int) -> None:
    whole = port(version, 1)
    assert list(split_ports(version, whole + whole[:-1])) == [1]
    assert list(split_ports(version, whole[:7])) == []
    if version >= V14:
        assert split_ports(version, whole[:4] + b"\x00\x07" + whole[6:]) == {}


def test_the_oldest_answers_are_dropped_but_not_the_features() -> None:
    directory, datapath = known(V13, 1)
    memory = directory._memory
    directory.learn(datapath, CONFIG, (bytes(4),), 1.0)
    for number in range(100):
        directory.learn(datapath, (*FLOWS[:2], b"%d" % number), (bytes(60_000),), 1.0)
        assert datapath.used <= LIMIT
        assert adds_up(directory, memory)
    assert {FEATURES, CONFIG, PORTS} <= set(datapath.answers)
    assert (*FLOWS[:2], b"99") in datapath.answers
    assert (*FLOWS[:2], b"0") not in datapath.answers
    directory.learn(datapath, FLOWS, (bytes(LIMIT + 1),), 1.0)
    assert FLOWS not in datapath.answers
    directory.forget(datapath)
    assert memory.used == 0


@pytest.mark.parametrize("version", ALL)
def test_changed_ports_are_kept_before_older_answers(version: int) -> None:
    directory, datapath = known(version, *range(1, 49))
    directory.learn(datapath, FLOWS, (bytes(60_000),), 1.0)
    directory.learn(datapath, DESC, (bytes(LIMIT - datapath.used - 350),), 1.0)
    change(directory, datapath, MODIFY, port(version, 1, "new"))
    assert ports_of(datapath)[1] == "new"
    assert FLOWS not in datapath.answers
    directory.learn(datapath, (*FLOWS[:2], b"again"), (bytes(LIMIT - datapath.used - 400),), 1.0)
    change(directory, datapath, ADD, port(version, 49))
    assert len(ports_of(datapath)) == 49
    assert FEATURES in datapath.answers
    assert datapath.used <= LIMIT
    assert adds_up(directory, directory._memory)


def test_keys_count_as_memory_too() -> None:
    directory, datapath = known(V13)
    for number in range(1000):
        directory.learn(datapath, (*FLOWS[:2], number.to_bytes(10_000, "big")), (b"",), 1.0)
    assert len(datapath.answers) * 10_000 <= LIMIT


def test_no_answer_is_kept_without_memory() -> None:
    memory = client_memory(32_000)
    directory = Directory(memory)
    datapath = directory.enter(CONNECTION, DPID, 0, V13)
    directory.learn(datapath, FLOWS, (bytes(100),), 1.0)
    directory.learn(datapath, FLOWS, (bytes(2000),), 2.0)
    assert FLOWS not in datapath.answers
    assert memory.used == SWITCH_COST


def test_no_switch_is_known_without_memory() -> None:
    memory = client_memory(48_000)
    directory = Directory(memory)
    one, two, three = (entered(directory, 1, number) for number in (1, 2, 3))
    directory.set_switch(connection(1), three)
    assert [is_known(directory, datapath) for datapath in (one, two, three)] == [True, True, False]
    assert directory.not_kept[NotKeptReason.NO_MEMORY] >= 1
    assert (directory.switch_of(connection(1)), directory.connections(1.0)) == (None, [])
    assert is_known(directory, entered(directory, 2, 3)), "another client has a part of its own"
    assert adds_up(directory, memory)
    directory.forget(three)
    for datapath in (one, two):
        directory.forget(datapath)
    assert is_known(directory, entered(directory, 1, 3))


def test_the_memory_of_a_switch_is_what_the_account_says() -> None:
    directory = Directory(client_memory(1 << 30))
    tracemalloc.start()
    for number in range(2000):
        name = f"openflow/10.10.{number // 200}.{number % 200}:40001"
        directory.set_switch(name, directory.enter(name, (1 << 40) + number, 0, V13))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 < held / (2000 * SWITCH_COST) < 1.2


def test_a_switch_in_another_version_loses_its_answers() -> None:
    directory, old = known(V10, 1)
    new = directory.enter(CONNECTION, DPID, 0, V13)
    assert directory.enter(CONNECTION, DPID, 0, V13) is new is directory.find(switch_id())
    assert not old.answers
    directory.learn(old, FLOWS, (b"late",), 2.0)  # from a connection that has not ended yet
    change(directory, old, ADD, port(V10, 2))
    assert not old.answers
    assert directory._memory.used == SWITCH_COST


def connection(client: int, port: int = 40001) -> str:
    return f"openflow/10.10.0.{client}:{port}"


def entered(directory: Directory, client: int, datapath_id: int) -> Datapath:
    """Return a client's switch that has sent its features."""
    datapath = directory.enter(connection(client), datapath_id, 0, V13)
    directory.learn(datapath, FEATURES, (bytes(24),), 1.0)
    return datapath


def is_known(directory: Directory, datapath: Datapath) -> bool:
    return directory.find(datapath.identity) is datapath


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Directory:
    """Return a directory for 16 switches, of which 4 may be one client's."""
    monkeypatch.setattr(module, "_MAX_DATAPATHS", 16)
    monkeypatch.setattr(module, "_MAX_OF_CLIENT", 4)
    return Directory(client_memory(1 << 30))


def test_one_client_displaces_only_its_own_switches(small: Directory) -> None:
    others = [entered(small, client, 7) for client in (1, 2)]
    lives = entered(small, 9, 1)
    small.set_switch(connection(9), lives)
    later = [entered(small, 9, number) for number in range(2, 300)]
    assert [is_known(small, one) for one in (*others, lives, *later[-4:])] == [*[True] * 3, False, *[True] * 3]
    assert small.not_kept == {NotKeptReason.TOO_MANY_SWITCHES: 295}
    assert adds_up(small, small._memory)


def test_the_client_with_the_most_switches_gives_way(small: Directory) -> None:
    many = [entered(small, client, number) for client in (1, 2, 3, 4) for number in range(4)]
    few = [entered(small, client, 7) for client in range(10, 16)]
    assert all(is_known(small, one) for one in few)
    of_clients = [sum(is_known(small, one) for one in many[at : at + 4]) for at in (0, 4, 8, 12)]
    assert sum(of_clients) == 10
    assert min(of_clients) >= 2
    assert adds_up(small, small._memory)


def test_a_forgotten_switch_has_no_connection(small: Directory) -> None:
    for number in range(8):
        small.set_switch(connection(1, 40000 + number), entered(small, 1, number))
    assert small.connections(1.0) == [connection(1, port) for port in range(40004, 40008)]
    assert small.switch_of(connection(1, 40000)) is None


def test_a_switch_is_kept_once_however_many_connections_it_opens() -> None:
    directory = Directory(client_memory(1 << 30))
    for port_number in range(1000, 5000):
        datapath = directory.enter(connection(1, port_number), DPID, 0, V13)
        directory.learn(datapath, FEATURES, (bytes(24),), 1.0)
        directory.learn(datapath, PORTS, (bytes(63 << 10),), 1.0)
        directory.set_switch(connection(1, port_number), datapath)
    assert directory.connections(1.0) == directory.seen() == [connection(1, 4999)]
    saved = json.dumps([directory.plain(name, 2.0) for name in directory.connections(2.0)])
    print(f"{len(saved)} bytes of JSON for 4,000 connections of one switch")
    assert len(saved) < 1 << 18
    directory.remove(connection(1, 1000))
    assert directory.connections(1.0) == [connection(1, 4999)], "an older connection has ended"


def test_the_same_ids_of_other_clients_are_other_switches() -> None:
    directory = Directory(client_memory(1 << 30))
    names = ["a/10.10.0.11:40001", "a/10.10.0.12:40001", "b/10.10.0.11:40002"]
    found = [directory.enter(name, DPID, 0, V13) for name in names]
    for number, datapath in enumerate(found):
        directory.learn(datapath, DESC, (bytes((number,)),), 1.0)
    assert [one.answers[DESC].bodies for one in found] == [(b"\0",), (b"\1",), (b"\2",)]


def test_another_hosts_record_does_not_replace_what_this_host_sees() -> None:
    """The switch has reconnected since the other host wrote its record."""
    directory, datapath = known(V13, 1)
    directory.set_switch(connection(11, 40002), datapath)
    record = {**SWITCH, "client": CONNECTION, "datapath_id": DPID}
    directory.adopt(record, 2.0)
    assert directory.seen() == directory.connections(2.0) == [connection(11, 40002)]
    directory.release(3.0)
    directory.adopt(record, 3.0)
    assert directory.connections(3.0) == [CONNECTION]
    assert directory.seen() == []


def test_a_connection_has_its_switch_until_it_ends() -> None:
    directory, datapath = known(V13)
    directory.set_switch(CONNECTION, datapath)
    assert directory.switch_of(CONNECTION) is datapath
    directory.remove(CONNECTION)
    directory.remove(CONNECTION)
    assert directory.switch_of(CONNECTION) is None


@pytest.mark.parametrize("version", ALL)
def test_a_switch_is_restored_from_json(version: int) -> None:
    """Without the longest answers and statistics, and with times of another clock."""
    directory, datapath = known(version, 1, 2)
    directory.learn(datapath, DESC, (b"one", b"two"), 3.0)
    directory.enter(CONNECTION, 77, 0, version)  # without a connection
    directory.set_switch(CONNECTION, datapath)
    answers = dict(datapath.answers)
    directory.learn(datapath, (Type.MULTIPART_REPLY, 12, b""), (bytes(40_000), bytes(40_000)), 3.0)
    directory.learn(datapath, FLOWS, (b"soon", b"old"), 3.0)
    assert directory.connections(3.0) == [CONNECTION]
    assert directory.plain("other", 3.0) is None
    entry = json.loads(json.dumps(directory.plain(CONNECTION, 5.0)))
    fresh = Directory(client_memory(1 << 30))
    fresh.restore(entry, 105.0)
    restored = fresh.switch_of(CONNECTION)
    assert restored is not None
    assert restored.version == version
    assert {key: answer.bodies for key, answer in restored.answers.items()} == {
        key: answer.bodies for key, answer in answers.items()
    }
    assert restored.answers[DESC].at == 103.0
    assert fresh.find(switch_id(77)) is None


SWITCH = {"client": "c", "datapath_id": 1, "auxiliary_id": 0, "version": 4, "answers": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"client": "c"},
        {**SWITCH, "answers": None},
        {**SWITCH, "datapath_id": "x"},
        {**SWITCH, "version": 9},
        {**SWITCH, "answers": [[6, -1, "", 1.0, []]]},
        {**SWITCH, "answers": [[99, -1, "", 1.0, [""]]]},
        {**SWITCH, "answers": [[6, -1, "zz", 1.0, ["00"]]]},
        {**SWITCH, "answers": [[6, -1, "", None, ["00"]]]},
        {**SWITCH, "answers": [[6, -1, "", 1e999, ["00"]]]},
        {**SWITCH, "answers": [[19, 1 << 16, "", 1.0, ["00"]]]},
        {**SWITCH, "datapath_id": 1 << 64},
        {**SWITCH, "datapath_id": 1e999},
        {**SWITCH, "auxiliary_id": -1},
        {**SWITCH, "version": [4]},
    ],
)
def test_a_malformed_entry_raises_an_expected_error(wrong: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Directory(client_memory(1 << 30)).restore(wrong, 1.0)


@pytest.mark.parametrize("version", [V13, V14, V15])
def test_too_many_ports_are_dropped_with_their_first_change(version: int) -> None:
    """Until then the answer is kept as the switch gave it."""
    directory, datapath = known(version, *range(1, MAX_PORTS + 2))
    key = key_of_ports(version)
    assert key in datapath.answers
    change(directory, datapath, MODIFY, port(version, 1, "new"))
    assert key not in datapath.answers
    assert directory.not_kept == {"too-many-ports": 1}
    assert adds_up(directory, directory._memory)


def test_one_port_too_many_drops_all_ports() -> None:
    directory, datapath = known(V13, *range(1, MAX_PORTS + 1))
    change(directory, datapath, MODIFY, port(V13, 1, "new"))
    assert len(ports_of(datapath)) == MAX_PORTS
    assert adds_up(directory, directory._memory)
    change(directory, datapath, DELETE, port(V13, 1))
    change(directory, datapath, ADD, port(V13, 70_000))
    assert PORTS in datapath.answers
    change(directory, datapath, ADD, port(V13, 70_001))
    assert PORTS not in datapath.answers
    assert adds_up(directory, directory._memory)


@pytest.mark.parametrize("version", ALL)
def test_the_memory_of_ports_adds_up(version: int) -> None:
    directory, datapath = known(version, 1, 2)
    for reason, number in [(ADD, 3), (MODIFY, 1), (DELETE, 2), (DELETE, 2), (ADD, 2), (DELETE, 9)]:
        change(directory, datapath, reason, port(version, number, f"p{number}"))
        assert adds_up(directory, directory._memory)


def test_ports_without_memory_are_dropped() -> None:
    directory, datapath = known(V13, 1)
    change(directory, datapath, MODIFY, port(V13, 1))
    directory._memory.take(NO_HOLDER, directory._memory.limit - directory._memory.used)
    change(directory, datapath, ADD, port(V13, 2))
    assert PORTS not in datapath.answers
    assert directory.not_kept == {"no-memory": 1}


def test_the_number_of_answers_is_bounded() -> None:
    directory, datapath = known(V13, 1)
    for number in range(2000):
        directory.learn(datapath, (*FLOWS[:2], number.to_bytes(4, "big")), (b"",), 1.0)
    assert len(datapath.answers) == 512
    assert {FEATURES, PORTS} <= set(datapath.answers)
    assert directory.not_kept[NotKeptReason.TOO_MANY_ANSWERS] == 2000 - 510
    assert adds_up(directory, directory._memory)


def test_the_json_of_a_switch_is_bounded() -> None:
    directory, datapath = known(V13, 1)
    directory.set_switch(CONNECTION, datapath)
    for number in range(30):
        directory.learn(datapath, (Type.MULTIPART_REPLY, 12, bytes((number,))), (bytes(50_000),), 1.0)
    entry = directory.plain(CONNECTION, 2.0)
    assert entry is not None
    assert len(json.dumps(entry)) < 600_000


@pytest.mark.parametrize("body", [b"", b"\xff" * 4, b"\xff" * 4 + b"pads"])
def test_all_requests_for_all_ports_have_one_key(body: bytes) -> None:
    assert multipart_key(V15, 13, body) == key_of_ports(V15)
    assert multipart_key(V13, 13, body) == PORTS
    assert multipart_key(V15, 13, b"\0\0\0\7pads") == (*PORTS[:2], b"\0\0\0\7" + bytes(4))
