"""A verdict as the API shows it, for tests of what is made of it."""

import json
import time
from collections.abc import Callable
from typing import Any

from natmirror.openflow.comparison.results import Difference, DifferenceKind, Evidence
from natmirror.openflow.messages import V13, parse
from tests.helpers.compared import (
    ARP,
    IP,
    MISSING,
    PRIORITY,
    ComparingEngine,
    answer,
    differs,
    equal,
    tables,
    unasked,
    verdicts,
)
from tests.helpers.openflow import KITS, packet_in
from tests.helpers.openflow_bodies import FRAME, flow_mod

EXTRA = Difference(DifferenceKind.RULE_MORE, "a rule more: priority=20,udp,tp_dst=53 actions=drop")
RULE = "idle_timeout=1,priority=10,in_port=3,dl_src=de:83:16:0f:12:7f,dl_dst=da:ae:b3:9e:9e:fa actions=output:2"
CLIENT = "10.10.0.11:40001"


def messages(version: int = V13) -> list[tuple[str, bytes]]:
    """Return a PACKET_IN and the answers of both sides, each with its sender."""
    kit = KITS[version]
    output = [kit.parser.OFPActionOutput(2)]
    more = {} if version < 6 else {"match": kit.parser.OFPMatch(in_port=1)}
    more = more or {"in_port": 1}
    packet_out = kit.make("OFPPacketOut", 3, buffer_id=0xFFFF_FFFF, actions=output, data=FRAME, **more)
    return [
        ("switch", packet_in(version, 7, FRAME)),
        ("production", flow_mod(version, {"in_port": 1}, output)),
        ("production", packet_out),
        ("mirror", packet_out),
    ]


def evidence(now: float, sent: list[tuple[str, bytes]] | None = None) -> Evidence:
    return Evidence(
        "packet_in in_port=3,arp,dl_src=de:83:16:0f:12:7f,dl_dst=da:ae:b3:9e:9e:fa,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,"
        "arp_op=1",
        (f"add {RULE}", "frame output:2"),
        ("frame output:2",),
        tuple((who, now, parse(raw)) for who, raw in (messages() if sent is None else sent)),
    )


def verdict_answer(change: Callable[[ComparingEngine, float], None] | None = None, **arguments: Any) -> dict[str, Any]:
    """Return the verdict on a candidate beside its twin, after JSON. Without ``change`` it differs in each way."""
    now = time.monotonic()
    engine = ComparingEngine()
    switch = engine.of("candidate", now - 100).of_switch(CLIENT)
    switch.datapath_id = 1
    twin = engine.of("same", now - 100).of_switch(CLIENT)
    for one, count in ((switch, 254), (twin, 310)):
        one.has_session = True
        answer(one, equal(now - 50, IP), times=count)
        one.compared_tables(tables(now - 50, 100.0))
        one.walked(60, 64)
    if change is not None:
        change(engine, now)
    else:
        for difference, count, fields in ((MISSING, 50, ARP), (PRIORITY, 6, IP)):
            answer(switch, differs(difference, at=now - 20, fields=fields, evidence=evidence(now - 20)), times=count)
        switch.ordered(unasked(EXTRA, now - 60))
        switch.compared_tables(tables(now - 10, 100.0, 58.0, (f"production: {RULE}",)))
        switch.session_ended(now - 5, "mirror-reset")
    [found] = verdicts(engine).show({"service": "openflow", "mirror": "candidate", "messages": True, **arguments})
    shown: dict[str, Any] = json.loads(json.dumps(found))
    return shown
