"""PORT_MOD, TABLE_MOD, roles, asynchronous configuration, bundles and errors as values."""

from struct import pack

import pytest

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.values import (
    AsyncMask,
    Barrier,
    BundleAdd,
    BundleControl,
    ErrorMessage,
    Opaque,
    PortMod,
    RoleRequest,
    SetAsync,
    TableMod,
)
from natmirror.openflow.messages import V10, V13, V14, V15, Type, build
from tests.helpers.openflow import ALL, KITS
from tests.helpers.openflow_bodies import LATER, value

everywhere = pytest.mark.parametrize("version", ALL)
later = pytest.mark.parametrize("version", LATER)
from_1_4 = pytest.mark.parametrize("version", (V14, V15))
MAC = b"\2\0\0\0\0\1"


@pytest.mark.parametrize(
    ("version", "body", "port"),
    [
        (V10, pack("!H6sIII4x", 0xFFFE, MAC, 3, 1, 9), 0xFFFF_FFFE),
        (V13, pack("!I4x6s2xIII4x", 5, MAC, 3, 1, 9), 5),
        (V14, pack("!I4x6s2xIIHHI", 5, MAC, 3, 1, 0, 8, 9), 5),
        (V15, pack("!I4x6s2xIIHHI", 5, MAC, 3, 1, 0, 8, 9), 5),
    ],
)
def test_a_port_mod(version: int, body: bytes, port: int) -> None:
    assert value(build(version, Type.PORT_MOD, 1, body)) == PortMod(port, 0x020000000001, 1, 1, 9)


def test_other_properties_of_a_port_mod() -> None:
    body = pack("!I4x6s2xIIHHI", 5, MAC, 3, 1, 1, 8, 9)
    assert value(build(V14, Type.PORT_MOD, 1, body)) == PortMod(5, 0x020000000001, 1, 1, 0, ((1, b"\0\0\0\x09"),))


@later
def test_a_table_mod(version: int) -> None:
    assert value(build(version, Type.TABLE_MOD, 1, pack("!B3xI", 3, 4))) == TableMod(3, 4)


@from_1_4
def test_properties_of_a_table_mod(version: int) -> None:
    found = value(build(version, Type.TABLE_MOD, 1, pack("!B3xIHHI", 3, 4, 2, 8, 1)))
    assert found == TableMod(3, 4, ((2, b"\0\0\0\1"),))
    with pytest.raises(MalformedBody, match="property"):
        value(build(version, Type.TABLE_MOD, 1, pack("!B3xIHHI", 3, 4, 2, 3, 1)))


@later
def test_roles(version: int) -> None:
    kit = KITS[version]
    assert value(kit.make("OFPRoleRequest", 1, role=2, generation_id=7)) == RoleRequest(2, 7)
    assert value(kit.make("OFPRoleRequest", 1, role=1, generation_id=7)) == RoleRequest(1)


def test_the_roles_of_nicira() -> None:
    def request(role: int) -> bytes:
        return build(V10, Type.EXPERIMENTER, 1, pack("!III", 0x2320, 10, role))

    assert [value(request(role)) for role in range(3)] == [RoleRequest(1), RoleRequest(2), RoleRequest(3)]
    with pytest.raises(MalformedBody):
        value(request(3))


def test_an_asynchronous_configuration() -> None:
    found = value(build(V13, Type.SET_ASYNC, 1, pack("!6I", 1, 2, 3, 4, 5, 6)))
    kinds = (Type.PACKET_IN, Type.PORT_STATUS, Type.FLOW_REMOVED)
    numbers = iter(range(1, 7))
    masks = [AsyncMask(kind, for_slave, next(numbers)) for kind in kinds for for_slave in (False, True)]
    assert found == SetAsync(tuple(masks))


@from_1_4
def test_an_asynchronous_configuration_of_properties(version: int) -> None:
    first, second, other = pack("!HHI", 0, 8, 5), pack("!HHI", 5, 8, 6), pack("!HHI", 0xFFFE, 8, 7)
    found = value(build(version, Type.SET_ASYNC, 1, first + second + other))
    assert found == SetAsync(
        (AsyncMask(Type.PACKET_IN, True, 5), AsyncMask(Type.FLOW_REMOVED, False, 6)), ((0xFFFE, b"\0\0\0\7"),)
    )
    assert found == value(build(version, Type.SET_ASYNC, 1, second + other + first))
    with pytest.raises(MalformedBody, match="too many"):
        value(build(version, Type.SET_ASYNC, 1, first * 65))


@from_1_4
def test_bundles(version: int) -> None:
    found = value(build(version, Type.BUNDLE_CONTROL, 1, pack("!IHH", 9, 4, 1)))
    assert found == BundleControl(9, 4, 1)
    inner = build(version, Type.BARRIER_REQUEST, 7)
    found = value(build(version, Type.BUNDLE_ADD_MESSAGE, 1, pack("!I2xH", 9, 1) + inner))
    assert found == BundleAdd(9, 1, Barrier(), 7)
    opaque = build(
        version, Type.BUNDLE_ADD_MESSAGE, 1, pack("!I2xH", 9, 1) + build(version, Type.SET_CONFIG, 7, b"some")
    )
    assert value(opaque) == BundleAdd(9, 1, Opaque("set_config", b"some"), 7)
    for bad in (inner[:7], b"\1" + inner[1:], inner[:2] + b"\0\x09" + inner[4:]):
        with pytest.raises(MalformedBody):
            value(build(version, Type.BUNDLE_ADD_MESSAGE, 1, pack("!I2xH", 9, 1) + bad))


def test_bundles_as_an_extension_of_1_3() -> None:
    onf = pack("!I", 0x4F4E4600)
    control = build(V13, Type.EXPERIMENTER, 1, onf + pack("!IIHH", 2300, 9, 0, 1))
    assert value(control) == BundleControl(9, 0, 1)
    inner = build(V13, Type.BARRIER_REQUEST, 7)
    added = build(V13, Type.EXPERIMENTER, 1, onf + pack("!II2xH", 2301, 9, 1) + inner)
    assert value(added) == BundleAdd(9, 1, Barrier(), 7)


@everywhere
def test_an_error(version: int) -> None:
    assert value(build(version, Type.ERROR, 1, pack("!HH", 5, 6) + b"some")) == ErrorMessage(5, 6, b"some")
    with pytest.raises(MalformedBody, match="too short"):
        value(build(version, Type.ERROR, 1, b"\0\5\0"))


@everywhere
def test_an_experimenter_is_named(version: int) -> None:
    found = value(build(version, Type.EXPERIMENTER, 1, pack("!II", 0xABC, 5) + b"some"))
    assert found == Opaque("experimenter 0xabc 5", b"some")
