"""The messages that a master wants, by its role and its SET_ASYNC, as os-ken writes them."""

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.async_config import AsyncConfig, Role
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.values import SetAsync
from natmirror.openflow.messages import V10, V13, V14, V15, Message, Type, build, parse
from tests.helpers.openflow import ALL, KITS, flow_removed, packet_in, port, port_status, understood

MAX = (1 << 64) - 1


def configured(version: int, role: Role = Role.EQUAL) -> AsyncConfig:
    config = AsyncConfig()
    config.role = role
    return config


def messages(version: int, reason: int = 0) -> dict[str, Message]:
    found = {
        "packet-in": packet_in(version, reason=reason),
        "port-status": port_status(version, reason, port(version, 1)),
        "flow-removed": flow_removed(version, reason=reason),
        "experimenter": build(version, Type.EXPERIMENTER, 0, pack("!II", 0x2320, 17)),
    }
    return {name: parse(raw) for name, raw in found.items()}


def wanted(config: AsyncConfig, version: int, reason: int = 0) -> set[str]:
    return {name for name, message in messages(version, reason).items() if config.wants(message)}


def set_async(version: int, **masks: tuple[int, int]) -> bytes:
    """Return a SET_ASYNC, from the masks of each type for others and for slaves."""
    kit = KITS[version]
    if version == V13:
        names = ("packet_in_mask", "port_status_mask", "flow_removed_mask")
        fields: dict[str, Any] = {name: masks.get(name, (0, 0)) for name in names}
    else:
        properties = [
            kit.parser.OFPAsyncConfigPropReasons(getattr(kit.ofproto, f"OFPACPT_{name}_{whom}"), 8, mask)
            for name, pair in masks.items()
            for whom, mask in zip(("MASTER", "SLAVE"), pair, strict=True)
        ]
        fields = {"properties": properties}
    return kit.make("OFPSetAsync", 1, **fields)


def configure(config: AsyncConfig, raw: bytes) -> None:
    """Set the configuration as a SET_ASYNC says; ValueError where that is malformed."""
    body = decode(parse(raw))
    assert isinstance(body, SetAsync)
    config.set_async(body)


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("reason", [0, 2, 40, 255])
def test_by_default_a_master_wants_all_and_a_slave_only_port_status(version: int, reason: int) -> None:
    assert wanted(configured(version), version, reason) == set(messages(version))
    assert wanted(configured(version, Role.MASTER), version, reason) == set(messages(version))
    assert wanted(configured(version, Role.SLAVE), version, reason) == {"port-status"}


def test_set_async_of_1_3() -> None:
    config = configured(V13)
    masks = {"packet_in_mask": (0b10, 0b01), "port_status_mask": (0, 0b111), "flow_removed_mask": (0b01, 0)}
    configure(config, set_async(V13, **masks))
    by_reason = {role: [] for role in (Role.EQUAL, Role.SLAVE)}  # type: dict[Role, list[set[str]]]
    for config.role in by_reason:
        by_reason[config.role] = [wanted(config, V13, reason) - {"experimenter"} for reason in (0, 1, 2)]
    assert by_reason == {
        Role.EQUAL: [{"flow-removed"}, {"packet-in"}, set()],
        Role.SLAVE: [{"packet-in", "port-status"}, {"port-status"}, {"port-status"}],
    }


@pytest.mark.parametrize("version", [V14, V15])
def test_set_async_changes_only_the_types_that_it_names(version: int) -> None:
    config = configured(version)
    configure(config, set_async(version, PACKET_IN=(0b10, 0b01), FLOW_REMOVED=(0b01, 0)))
    assert wanted(config, version, 0) == {"port-status", "flow-removed", "experimenter"}
    assert wanted(config, version, 1) == {"port-status", "packet-in", "experimenter"}
    config.role = Role.SLAVE
    assert wanted(config, version, 0) == {"port-status", "packet-in"}
    configure(config, set_async(version, PORT_STATUS=(0, 0)))
    assert wanted(config, version, 0) == {"packet-in"}


@pytest.mark.parametrize("version", [V13, V14, V15])
def test_get_async_returns_what_set_async_has_set(version: int) -> None:
    config = configured(version)
    names = ("packet_in_mask", "port_status_mask", "flow_removed_mask")
    if version == V13:
        raw = set_async(V13, **{name: (place, 7 - place) for place, name in enumerate(names)})
    else:
        raw = set_async(version, PACKET_IN=(5, 6), REQUESTFORWARD=(0, 3))
    configure(config, raw)
    reply = understood(build(version, Type.GET_ASYNC_REPLY, 1, config.get_async(version)))
    if version == V13:
        assert [list(getattr(reply, name)) for name in names] == [[0, 7], [1, 6], [2, 5]]
    else:
        masks = {one.type: one.mask for one in reply.properties}
        ofproto = KITS[version].ofproto
        assert masks[ofproto.OFPACPT_PACKET_IN_MASTER], masks[ofproto.OFPACPT_PACKET_IN_SLAVE] == (5, 6)
        assert masks[ofproto.OFPACPT_REQUESTFORWARD_MASTER] == 0
        assert masks[ofproto.OFPACPT_PORT_STATUS_SLAVE] == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("version", "body"),
    [(V13, bytes(23)), (V13, b""), (V14, pack("!HHI", 0, 7, 0)), (V15, pack("!HHIHHI", 1, 8, 5, 3, 4, 0))],
)
def test_a_malformed_set_async_changes_nothing(version: int, body: bytes) -> None:
    config = configured(version)
    before = config.get_async(version)
    with pytest.raises(ValueError, match=r"too short|has 7 bytes"):
        configure(config, build(version, Type.SET_ASYNC, 1, body))
    assert config.get_async(version) == before


def test_messages_too_short_for_a_reason_are_selected_by_type() -> None:
    config = configured(V13)
    short = parse(build(V13, Type.PACKET_IN, 0, bytes(6)))
    assert config.wants(short)
    config.role = Role.SLAVE
    assert not config.wants(short)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ([(Role.MASTER, 5), (Role.SLAVE, 5), (Role.MASTER, 6)], [True, True, True]),
        ([(Role.MASTER, 5), (Role.SLAVE, 4)], [True, False]),
        ([(Role.MASTER, 5), (Role.EQUAL, 4), (Role.NOCHANGE, 3), (Role.MASTER, 4)], [True, True, True, False]),
        ([(Role.MASTER, MAX), (Role.MASTER, 0)], [True, True]),  # wraps around
        ([(Role.MASTER, 0), (Role.MASTER, MAX)], [True, False]),
        ([(Role.MASTER, 0), (Role.MASTER, 1 << 63)], [True, False]),
        ([(Role.MASTER, 0), (Role.MASTER, (1 << 63) - 1)], [True, True]),
    ],
)
def test_generation_ids(asked: list[tuple[int, int]], granted: list[bool]) -> None:
    config = configured(V13)
    assert [config.request_role(*one) for one in asked] == granted


def test_the_role_stays_when_another_is_refused() -> None:
    config = configured(V13)
    config.request_role(Role.SLAVE, 5)
    assert not config.request_role(Role.MASTER, 4)
    assert (config.role, config.generation_id) == (Role.SLAVE, 5)
    config.request_role(Role.NOCHANGE, 9)
    assert (config.role, config.generation_id) == (Role.SLAVE, 5)
    with pytest.raises(ValueError, match="4"):
        config.request_role(4, 6)


@given(st.sampled_from(ALL), st.sampled_from(list(Type)), st.binary(max_size=40), st.binary(max_size=80))
def test_any_bytes_raise_only_expected_errors(version: int, kind: Type, body: bytes, properties: bytes) -> None:
    config = AsyncConfig()
    if version != V10:
        try:
            configure(config, build(version, Type.SET_ASYNC, 1, properties))
        except ValueError:
            assert config.get_async(version) == AsyncConfig().get_async(version)
    message = Message(version, kind, 0, bytes((version, kind, 0, 8 + len(body))) + bytes(4) + body)
    assert config.wants(message) in (True, False)
