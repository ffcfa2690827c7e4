"""GROUP_MOD and METER_MOD as values."""

from struct import pack
from typing import Any

import pytest

from natmirror.openflow.bodies.elements import Action, MalformedBody
from natmirror.openflow.bodies.group_values import (
    Band,
    Bucket,
    GroupCommand,
    GroupMod,
    GroupType,
    MeterCommand,
    MeterMod,
)
from natmirror.openflow.messages import V13, V14, V15, Type, build
from tests.helpers.openflow import KITS
from tests.helpers.openflow_bodies import LATER, value

ANY = 0xFFFF_FFFF
ALL, SELECT, FAST_FAILOVER = 0, 1, 3
before_1_5 = pytest.mark.parametrize("version", (V13, V14))
later = pytest.mark.parametrize("version", LATER)
OUTPUT = (Action("output", (1,)),)


def group(version: int, kind: int, *buckets: dict[str, Any], command: int = 0) -> GroupMod:
    parser = KITS[version].parser
    made = [parser.OFPBucket(**{"watch_port": ANY, "watch_group": ANY, **bucket}) for bucket in buckets]
    found = value(KITS[version].make("OFPGroupMod", 1, command=command, type_=kind, group_id=5, buckets=made))
    assert isinstance(found, GroupMod)
    return found


def outputs(version: int, *ports: int) -> list[Any]:
    return [KITS[version].parser.OFPActionOutput(port) for port in ports]


def group_15(command: int, kind: int, buckets: bytes, *, bucket_id: int = 0, properties: bytes = b"") -> GroupMod:
    body = pack("!HBxIH2xI", command, kind, 5, len(buckets), bucket_id) + buckets + properties
    found = value(build(V15, Type.GROUP_MOD, 1, body))
    assert isinstance(found, GroupMod)
    return found


def bucket_15(bucket_id: int, properties: bytes = b"") -> bytes:
    actions = pack("!HHIH6x", 0, 16, 1, 0)
    return pack("!HHI", 8 + len(actions) + len(properties), len(actions), bucket_id) + actions + properties


@before_1_5
def test_a_group(version: int) -> None:
    found = group(version, SELECT, {"weight": 5, "actions": outputs(version, 1)}, {"weight": 1, "actions": []})
    buckets = (Bucket(OUTPUT, 5), Bucket((), 1))
    assert found == GroupMod(GroupCommand.ADD, 5, GroupType.SELECT, buckets)
    watched = group(version, FAST_FAILOVER, {"watch_port": 3, "watch_group": 4, "actions": []}, command=1)
    failover = (Bucket((), 0, 3, 4),)
    assert watched == GroupMod(GroupCommand.MODIFY, 5, GroupType.FAST_FAILOVER, failover)


@before_1_5
def test_weights_count_in_select_groups_only(version: int) -> None:
    buckets = [{"weight": weight, "actions": outputs(version, 1)} for weight in (0, 5)]
    assert group(version, ALL, buckets[0]) == group(version, ALL, buckets[1])
    assert group(version, SELECT, buckets[0]) != group(version, SELECT, buckets[1])


@before_1_5
def test_the_order_of_buckets_counts_except_in_all(version: int) -> None:
    buckets = [{"actions": outputs(version, port)} for port in (1, 2)]
    assert group(version, ALL, *buckets) == group(version, ALL, *buckets[::-1])
    assert group(version, SELECT, *buckets) != group(version, SELECT, *buckets[::-1])


@before_1_5
def test_a_bucket_is_an_action_set(version: int) -> None:
    pop = KITS[version].parser.OFPActionPopVlan()
    one = group(version, ALL, {"actions": [*outputs(version, 1), pop]})
    assert one == group(version, ALL, {"actions": [pop, *outputs(version, 1)]})


@later
def test_a_group_that_is_deleted_has_no_type(version: int) -> None:
    kit = KITS[version]
    for kind in (0, 3):
        raw = kit.make("OFPGroupMod", 1, command=2, type_=kind, group_id=5)
        assert value(raw) == GroupMod(GroupCommand.DELETE, 5)


def test_a_group_of_1_5() -> None:
    watch = pack("!HHI", 1, 8, 3) + pack("!HHI", 2, 8, 4)
    weight = pack("!HHH2x", 0, 8, 7)
    found = group_15(0, SELECT, bucket_15(1, weight + watch) + bucket_15(2))
    buckets = (Bucket(OUTPUT, 7, 3, 4, 1), Bucket(OUTPUT, 1, bucket_id=2))
    assert found == GroupMod(GroupCommand.ADD, 5, GroupType.SELECT, buckets)
    assert group_15(0, ALL, bucket_15(1, weight)).buckets == (Bucket(OUTPUT, 0, bucket_id=1),)
    other = pack("!HHI4s", 0xFFFF, 12, 9, b"some") + bytes(4)
    found = group_15(0, ALL, bucket_15(1, other), properties=other)
    assert found.properties == found.buckets[0].properties == ((0xFFFF, pack("!I4s", 9, b"some")),)


def test_buckets_that_are_inserted_and_removed() -> None:
    inserted = group_15(3, SELECT, bucket_15(1), bucket_id=0xFFFF_FFFE)
    assert inserted == GroupMod(
        GroupCommand.INSERT_BUCKET, 5, None, (Bucket(OUTPUT, 1, bucket_id=1),), command_bucket_id=0xFFFF_FFFE
    )
    assert group_15(5, ALL, b"", bucket_id=1) == GroupMod(GroupCommand.REMOVE_BUCKET, 5, command_bucket_id=1)
    with pytest.raises(MalformedBody):
        group(V13, ALL, command=3)


@pytest.mark.parametrize(
    "body",
    [
        pack("!HBxI", 9, 0, 1),
        pack("!HBxI", 0, 9, 1),
        pack("!HBxI", 0, 0, 1) + pack("!HHII4x", 8, 0, 1, 1),
        pack("!HBxI", 0, 0, 1) + pack("!HHII4x", 24, 0, 1, 1),
    ],
    ids=("command", "type", "length", "cut off"),
)
def test_malformed_groups(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        value(build(V13, Type.GROUP_MOD, 1, body))


@later
def test_a_meter(version: int) -> None:
    kit = KITS[version]
    bands = [kit.parser.OFPMeterBandDscpRemark(7, 8, 1), kit.parser.OFPMeterBandDrop(5, 6)]
    found = value(kit.make("OFPMeterMod", 1, command=0, flags=5, meter_id=6, bands=bands))
    expected = (Band("drop", 5, 6), Band("dscp_remark", 7, 8, 1))
    assert found == MeterMod(MeterCommand.ADD, 6, 5, expected)
    assert found == value(kit.make("OFPMeterMod", 2, command=0, flags=5, meter_id=6, bands=bands[::-1]))


@later
def test_bursts_count_only_with_their_flag(version: int) -> None:
    kit = KITS[version]
    meters = [
        value(kit.make("OFPMeterMod", 1, command=1, flags=1, meter_id=6, bands=[kit.parser.OFPMeterBandDrop(5, burst)]))
        for burst in (0, 6)
    ]
    assert meters[0] == meters[1] == MeterMod(MeterCommand.MODIFY, 6, 1, (Band("drop", 5, 0),))


def test_other_bands_and_commands() -> None:
    body = pack("!HHI", 0, 1, 6) + pack("!HHIII", 9, 16, 5, 0, 7) + pack("!HHIII", 0xFFFF, 16, 5, 0, 7)
    found = value(build(V13, Type.METER_MOD, 1, body))
    assert isinstance(found, MeterMod)
    assert {band.kind for band in found.bands} == {"unknown-9", "experimenter"}
    assert all(band.argument == b"\0\0\0\7" for band in found.bands)
    assert value(build(V13, Type.METER_MOD, 1, pack("!HHI", 2, 1, 6))) == MeterMod(MeterCommand.DELETE, 6)
    with pytest.raises(MalformedBody):
        value(build(V13, Type.METER_MOD, 1, pack("!HHI", 3, 1, 6)))
