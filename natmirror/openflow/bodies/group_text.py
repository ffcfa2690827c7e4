"""Writes groups as ``ovs-ofctl dump-groups`` does, and meters as ``ovs-ofctl dump-meters``, each on one line."""

from collections.abc import Iterable

from natmirror.openflow.bodies.action_text import actions_text
from natmirror.openflow.bodies.elements import ALL_GROUPS, ALL_METERS, ANY_GROUP, ReservedPort
from natmirror.openflow.bodies.field_text import bytes_text, port_text
from natmirror.openflow.bodies.group_values import Band, Bucket, GroupMod, GroupType, MeterMod

_DEFAULT_WEIGHT = {GroupType.SELECT: 1, None: 1}
_METER_FLAGS = {1: "kbps", 2: "pktps", 4: "burst", 8: "stats"}
_BURST = 4


def group_text(group: GroupMod) -> str:
    """Return a group: ``group_id=1,type=select,bucket=weight:5,actions=output:1``."""
    words = [f"group_id={'all' if group.group_id == ALL_GROUPS else group.group_id}"]
    if group.type is not None:
        words.append(f"type={group.type}")
    if group.command_bucket_id is not None:
        words.append(f"command_bucket_id={group.command_bucket_id}")
    words += (f"property{kind:#x}={bytes_text(body)}" for kind, body in group.properties)
    words += (_bucket_text(bucket, group.type) for bucket in group.buckets)
    return ",".join(words)


def group_mod_text(mod: GroupMod) -> str:
    """Return a GROUP_MOD: its command, and the group."""
    return f"group {mod.command} {group_text(mod)}"


def _bucket_text(bucket: Bucket, kind: GroupType | None) -> str:
    words = [] if bucket.bucket_id is None else [f"bucket_id:{bucket.bucket_id}"]
    words += [] if bucket.weight == _DEFAULT_WEIGHT.get(kind, 0) else [f"weight:{bucket.weight}"]
    words += [] if bucket.watch_port == ReservedPort.ANY else [f"watch_port:{port_text(bucket.watch_port)}"]
    words += [] if bucket.watch_group == ANY_GROUP else [f"watch_group:{bucket.watch_group}"]
    words += [f"property{number:#x}:{bytes_text(body)}" for number, body in bucket.properties]
    return f"bucket={','.join([*words, f'actions={actions_text(bucket.actions)}'])}"


def meter_text(meter: MeterMod) -> str:
    """Return a meter: ``meter=1 pktps burst bands=type=drop rate=5 burst_size=7``."""
    number = "all" if meter.meter_id == ALL_METERS else str(meter.meter_id)
    flags = [word for bit, word in _METER_FLAGS.items() if meter.flags & bit]
    bands = " ".join(_band_text(band, has_burst=bool(meter.flags & _BURST)) for band in meter.bands)
    return " ".join([f"meter={number}", *flags, f"bands={bands}"])


def meter_mod_text(mod: MeterMod) -> str:
    """Return a METER_MOD: its command, and the meter."""
    return f"meter {mod.command} {meter_text(mod)}"


def _band_text(band: Band, *, has_burst: bool) -> str:
    return " ".join(_band_words(band, has_burst=has_burst))


def _band_words(band: Band, *, has_burst: bool) -> Iterable[str]:
    yield f"type={band.kind}"
    yield f"rate={band.rate}"
    if has_burst:
        yield f"burst_size={band.burst}"
    if isinstance(band.argument, bytes):
        yield bytes_text(band.argument)
    elif band.kind == "dscp_remark":
        yield f"prec_level={band.argument}"
