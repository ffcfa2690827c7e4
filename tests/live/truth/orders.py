"""Random orders of a controller, encoded by os-ken, which natmirror's decoder does not use.

A rule writes one output at most: of several the last one counts, but Open vSwitch deletes the rule by the others' ports
too. A bucket that is inserted has a weight, whose default in Open vSwitch depends on a type that does not count.

Other orders are left out because of faults in Open vSwitch 3.1, where no model can follow:

- It aborts when a group is deleted that a rule uses twice.
- INSERT_BUCKET without a bucket makes it hang.
- It aborts when a bundle adds a rule and deletes the rule's group.
"""

from itertools import count
from random import Random
from typing import Any

from natmirror.openflow.messages import V10, V14, V15
from tests.helpers.openflow import KITS

_GROUPS, _METERS = (1, 2, 3), (1, 2)
_MACS = tuple(f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
_MASKS = ("ff:ff:ff:00:00:00", "01:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}
_ADD, _MODIFY, _DELETE, _INSERT, _REMOVE = 0, 1, 2, 3, 5
_FIRST, _LAST, _ALL_BUCKETS = 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF
_NO_BUFFER, _ANY = 0xFFFF_FFFF, 0xFFFF_FFFF
_ATOMIC = 1


class Orders:
    """Orders in one version, by chance but the same for each seed."""

    def __init__(self, version: int, seed: int) -> None:
        self.version = version
        self.random = Random(f"{version} {seed}")
        self._kit = KITS[version]
        self._xids = count(1)
        self._bundles = count(1)
        self._groups = set(_GROUPS)
        """The groups that a rule has not used yet."""

    def order(self) -> list[bytes]:
        """Return one order, or the messages of a bundle with several."""
        if self.version >= V14 and self._has_luck(0.04):
            return self._bundle()
        kind = self.random.random()
        if self.version > V10 and kind < 0.08:
            return [self._make(*self._group())]
        if self.version > V10 and kind < 0.12:
            return [self._make(*self._meter())]
        return [self._make("OFPFlowMod", self._flow())]

    def delete_all(self) -> list[bytes]:
        """Return the orders that delete all rules, groups and meters."""
        ofproto, parser = self._kit.ofproto, self._kit.parser
        flow = {"command": ofproto.OFPFC_DELETE, "match": parser.OFPMatch(), "buffer_id": _NO_BUFFER}
        if self.version == V10:
            return [self._make("OFPFlowMod", {**flow, "cookie": 0, "out_port": ofproto.OFPP_NONE, "actions": []})]
        flow |= {"table_id": ofproto.OFPTT_ALL, "out_port": _ANY, "out_group": _ANY, "instructions": []}
        return [
            self._make("OFPFlowMod", flow),
            self._make("OFPGroupMod", self._group_mod(_DELETE, ofproto.OFPGT_ALL, ofproto.OFPG_ALL, [])),
            self._make("OFPMeterMod", {"command": _DELETE, "flags": 1, "meter_id": ofproto.OFPM_ALL, "bands": []}),
        ]

    def _make(self, name: str, fields: dict[str, Any]) -> bytes:
        return self._kit.make(name, next(self._xids), **fields)

    def _has_luck(self, probability: float) -> bool:
        return self.random.random() < probability

    # FLOW_MOD

    def _flow(self) -> dict[str, Any]:
        choose, ofproto = self.random.choice, self._kit.ofproto
        command = self.random.choices(range(5), (60, 9, 9, 12, 10))[0]
        is_v10, is_delete = self.version == V10, command > 2
        fields = {
            "command": command,
            "priority": choose((0, 1, 1, 2, 10)),
            "match": self._match(),
            "cookie": self.random.randint(0, 3),
            "flags": choose((0, 1, 1, 2, 3) if is_v10 else (0, 1, 1, 2, 3, 4, 8 | 16)),
            "buffer_id": _NO_BUFFER,
            "out_port": choose((1, 2, 3)) if self._has_luck(0.3) else (ofproto.OFPP_NONE if is_v10 else _ANY),
            "idle_timeout": choose((0, 0, 0, 60, 1)),
            "hard_timeout": choose((0, 0, 0, 90, 1, 2)),
        }
        if is_v10:
            return {**fields, "actions": self._actions()}
        table = choose((0, 0, 1, 2, 0xFF)) if is_delete or self._has_luck(0.02) else choose((0, 0, 1, 2))
        return {
            **fields,
            "out_group": choose(_GROUPS) if self._has_luck(0.1) else _ANY,
            "table_id": table,
            "cookie_mask": choose((0, 0, 0, 1, 3)) if command else 0,
            "instructions": self._instructions(table),
            **({"importance": self.random.randint(0, 2)} if self.version >= V14 else {}),
        }

    def _match(self) -> Any:
        is_v10 = self.version == V10
        fields: dict[str, Any] = {"in_port": self.random.randint(1, 3)} if self._has_luck(0.5) else {}
        kind = self.random.choice(("none", "l2", "arp", "ip", "tcp", "udp", "vlan", "masked", "icmp", "ipv6"))
        if kind in ("l2", "vlan") or self._has_luck(0.3):
            fields["dl_dst" if is_v10 else "eth_dst"] = self.random.choice(_MACS)
        add = self._add_v10_fields if is_v10 else self._add_oxm_fields
        add(kind, fields)
        return self._kit.parser.OFPMatch(**fields)

    def _ip(self) -> str:
        return f"10.0.{self.random.randint(0, 1)}.{self.random.randint(1, 3)}"

    def _add_v10_fields(self, kind: str, fields: dict[str, Any]) -> None:
        choose = self.random.choice
        if kind == "vlan":
            fields["dl_vlan"] = choose((1, 2, 0xFFFF))
        elif kind == "arp":
            fields["dl_type"] = 0x806
            if self._has_luck(0.5):
                fields["nw_dst"] = self._ip()
        elif kind in ("ip", *_PROTOCOLS):
            fields["dl_type"] = 0x800
            if self._has_luck(0.5):
                fields |= {"nw_src": self._ip(), "nw_src_mask": choose((8, 16, 24, 32))}
            if self._has_luck(0.2):
                fields["nw_tos"] = choose((0x10, 0x20))
        if kind in _PROTOCOLS:
            fields["nw_proto"] = _PROTOCOLS[kind]
            if self._has_luck(0.6):
                fields["tp_dst"] = choose((8, 0) if kind == "icmp" else (53, 80))
            if self._has_luck(0.2):  # without a wildcard the rule has the highest priority
                every = {"in_port": 1, "dl_src": _MACS[0], "dl_dst": _MACS[1], "dl_vlan": 1, "dl_vlan_pcp": 0}
                fields |= {**every, "nw_tos": 0, "nw_src": "10.0.0.1", "nw_src_mask": 32, "nw_dst": "10.0.0.2"}
                fields |= {"nw_dst_mask": 32, "tp_src": 1, "tp_dst": 2}

    def _add_oxm_fields(self, kind: str, fields: dict[str, Any]) -> None:
        choose = self.random.choice
        if kind == "vlan":
            fields["vlan_vid"] = choose((0x1001, 0x1002, 0))
            if fields["vlan_vid"] and self._has_luck(0.3):
                fields["vlan_pcp"] = self.random.randint(0, 7)
        elif kind == "masked":
            fields["eth_src"] = (_MACS[0], choose(_MASKS))
            fields["metadata"] = (self.random.randint(0, 3), choose((1, 3, (1 << 64) - 1)))
            fields["vlan_vid"] = (0x1000, 0x1000)
        elif kind == "arp":
            fields["eth_type"] = 0x806
            if self._has_luck(0.5):
                fields["arp_tpa"] = self._ip()
        elif kind == "ipv6":
            fields["eth_type"] = 0x86DD
            if self._has_luck(0.7):
                fields["ipv6_dst"] = ("2001:db8::1", choose(("ffff:ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")))
        elif kind in ("ip", *_PROTOCOLS):
            fields["eth_type"] = 0x800
            if self._has_luck(0.5):
                fields["ipv4_src"] = (self._ip(), choose(("255.255.0.0", "255.255.255.0", "255.255.255.255")))
            if self._has_luck(0.2):
                fields["ip_dscp"] = choose((4, 8))
        if kind in _PROTOCOLS:
            fields["ip_proto"] = _PROTOCOLS[kind]
            if self._has_luck(0.6):
                name = {"tcp": "tcp_dst", "udp": "udp_dst", "icmp": "icmpv4_type"}[kind]
                fields[name] = choose((8, 0) if kind == "icmp" else (53, 80))

    def _actions(self, *, of_bucket: bool = False, is_set: bool = False) -> list[Any]:
        parser, ofproto = self._kit.parser, self._kit.ofproto
        found = []
        if self.version == V10:
            if self._has_luck(0.2):
                found.append(parser.OFPActionVlanVid(self.random.randint(1, 9)))
            if self._has_luck(0.2):
                found.append(parser.OFPActionSetDlDst("02:00:00:00:00:09"))
            if self._has_luck(0.1):
                found.append(parser.OFPActionStripVlan())
            if self._has_luck(0.1):
                found.append(parser.OFPActionEnqueue(self.random.randint(1, 2), 1))
        else:
            if self._has_luck(0.2):
                found.append(parser.OFPActionSetField(eth_dst="02:00:00:00:00:09"))
            if self._has_luck(0.1):
                found.append(parser.OFPActionPushVlan(0x8100))
            if self._has_luck(0.1 if of_bucket else 0.2):
                group = self.random.choice(_GROUPS if of_bucket else sorted(self._groups))
                self._groups.discard(group)
                found.append(parser.OFPActionGroup(group))
        ports = (1, 2, 3, ofproto.OFPP_CONTROLLER, ofproto.OFPP_FLOOD, ofproto.OFPP_NORMAL)
        if self.version == V15 and not of_bucket and not is_set and self._has_luck(0.2):
            found.insert(self.random.choice((0, 0, len(found))), parser.OFPActionMeter(self.random.choice(_METERS)))
        for _ in range(self.random.randint(0, 1 if is_set else 2)):
            found.append(parser.OFPActionOutput(self.random.choice(ports), self.random.choice((0, 128, 65535))))
        return found

    def _instructions(self, table: int) -> list[Any]:
        parser, ofproto, found = self._kit.parser, self._kit.ofproto, []
        self._groups = set(_GROUPS)
        for kind in (ofproto.OFPIT_APPLY_ACTIONS, ofproto.OFPIT_WRITE_ACTIONS):
            if self._has_luck(0.5):
                actions = self._actions(is_set=kind == ofproto.OFPIT_WRITE_ACTIONS)
                found.append(parser.OFPInstructionActions(kind, actions))
        if self._has_luck(0.1):
            found.append(parser.OFPInstructionActions(ofproto.OFPIT_CLEAR_ACTIONS, []))
        if self._has_luck(0.1):
            found.append(parser.OFPInstructionWriteMetadata(self.random.randint(0, 3), 3))
        if self.version < V15 and self._has_luck(0.1):
            found.append(parser.OFPInstructionMeter(self.random.choice(_METERS)))
        if self._has_luck(0.15):
            found.append(parser.OFPInstructionGotoTable(1 if table > 2 else table + self.random.choice((0, 1, 1, 1))))
        self.random.shuffle(found)
        return found

    # GROUP_MOD, METER_MOD

    def _group(self) -> tuple[str, dict[str, Any]]:
        ofproto, choose = self._kit.ofproto, self.random.choice
        types = (ofproto.OFPGT_ALL, ofproto.OFPGT_SELECT, ofproto.OFPGT_INDIRECT, ofproto.OFPGT_FF)
        commands = (_ADD, _ADD, _MODIFY, _DELETE, *((_INSERT, _REMOVE) if self.version == V15 else ()))
        command, kind = choose(commands), choose(types)
        number = ofproto.OFPG_ALL if command == _DELETE and self._has_luck(0.2) else choose(_GROUPS)
        fewest = 1 if command == _INSERT else 0
        buckets = [self._bucket(kind, command) for _ in range(self.random.randint(fewest, 3))]
        buckets = [] if command in (_DELETE, _REMOVE) else buckets
        if kind == ofproto.OFPGT_INDIRECT and self._has_luck(0.8):
            buckets = buckets[:1]
        return "OFPGroupMod", self._group_mod(command, kind, number, buckets)

    def _group_mod(self, command: int, kind: int, number: int, buckets: list[Any]) -> dict[str, Any]:
        fields = {"command": command, "type_": kind, "group_id": number, "buckets": buckets}
        if self.version == V15:
            where = self.random.choice((_FIRST, _LAST, 1, 2, *((_ALL_BUCKETS,) if command == _REMOVE else ())))
            fields["command_bucket_id"] = where if command in (_INSERT, _REMOVE) else _ALL_BUCKETS
        return fields

    def _bucket(self, kind: int, command: int) -> Any:
        parser, ofproto = self._kit.parser, self._kit.ofproto
        has_weight = kind == ofproto.OFPGT_SELECT or command == _INSERT
        weight = self.random.randint(0, 2) if has_weight else 0
        watch = self.random.randint(1, 2) if kind == ofproto.OFPGT_FF else _ANY
        actions = self._actions(of_bucket=True)
        if self.version < V15:
            return parser.OFPBucket(weight, watch, _ANY, actions)
        properties = []
        if has_weight:
            properties.append(parser.OFPGroupBucketPropWeight(weight=weight, type_=ofproto.OFPGBPT_WEIGHT))
        if kind == ofproto.OFPGT_FF:
            properties.append(parser.OFPGroupBucketPropWatch(watch=watch, type_=ofproto.OFPGBPT_WATCH_PORT))
        return parser.OFPBucket(bucket_id=self.random.randint(1, 3), actions=actions, properties=properties)

    def _meter(self) -> tuple[str, dict[str, Any]]:
        parser, ofproto = self._kit.parser, self._kit.ofproto
        command = self.random.choice((_ADD, _ADD, _MODIFY, _DELETE))
        number = ofproto.OFPM_ALL if command == _DELETE and self._has_luck(0.2) else self.random.choice(_METERS)
        bands = [parser.OFPMeterBandDrop(self.random.choice((1000, 2000)), 10)] if command != _DELETE else []
        flags = self.random.choice((ofproto.OFPMF_KBPS, ofproto.OFPMF_PKTPS | ofproto.OFPMF_BURST))
        return "OFPMeterMod", {"command": command, "flags": flags, "meter_id": number, "bands": bands}

    # Bundles

    def _bundle(self) -> list[bytes]:
        """Return a bundle of a few orders: opened, filled, closed or not, committed or discarded."""
        number, ofproto = next(self._bundles), self._kit.ofproto
        messages = [self._control(number, ofproto.OFPBCT_OPEN_REQUEST)]
        orders = [self._group() if self._has_luck(0.15) else ("OFPFlowMod", self._flow()) for _ in range(5)]
        orders = orders[: self.random.randint(0, 5)]
        for name, fields in orders:
            if name == "OFPGroupMod" and fields["command"] == _DELETE:
                continue
            message = getattr(self._kit.parser, name)(self._kit.desc, **fields)
            xid = next(self._xids)
            message.set_xid(xid)
            added = {"bundle_id": number, "flags": _ATOMIC, "message": message, "properties": []}
            messages.append(self._kit.make("OFPBundleAddMsg", xid, **added))
        if self._has_luck(0.5):
            messages.append(self._control(number, ofproto.OFPBCT_CLOSE_REQUEST))
        end = ofproto.OFPBCT_DISCARD_REQUEST if self._has_luck(0.2) else ofproto.OFPBCT_COMMIT_REQUEST
        return [*messages, self._control(number, end)]

    def _control(self, number: int, kind: int) -> bytes:
        return self._make("OFPBundleCtrlMsg", {"bundle_id": number, "type_": kind, "flags": _ATOMIC, "properties": []})
