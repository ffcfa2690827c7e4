"""The status screen: the first line, problems and their room, columns by width, colours, and what is never cut."""

import re
from os import terminal_size
from typing import Any

import click
import pytest

from natmirror.api.status_screen import status_screen
from natmirror.findings import Findings, HostCode, OwnCode
from natmirror.mirror.shown import MirrorState
from natmirror.reasons import EndReason
from natmirror.runtime.shared_state import OFF
from natmirror.runtime.shown import StatusAnswer
from tests.helpers.declared import assert_declared
from tests.helpers.status import AT, PAIR, status_document

NARROW, WIDE = terminal_size((80, 24)), terminal_size((120, 40))
SINCE = "2026-01-02T03:03:50.000+00:00"
NO_PROBLEM = {"state": "ok", "unfit_because": "", "problems": []}


def problem(code: str = "backend-down", text: str = "backend web/c1 is down", **more: Any) -> dict[str, Any]:
    return {
        **{"code": code, "severity": "warning", "affects": "production", "subject": "web/c1", "problem": text},
        **{"mend": "see whether its program runs", "since": SINCE, "mended": False, **more},
    }


def degraded(*problems: dict[str, Any]) -> dict[str, Any]:
    return {"state": "degraded", "unfit_because": "", "problems": [*problems]}


@pytest.fixture
def status() -> dict[str, Any]:
    """An ordinary host: a service with three backends and two mirrors, all well."""
    status = status_document()
    [backend], [mirror] = status["backends"], status["mirrors"]
    well = {"state": "up", "healthy": True, "reason": "", "state_seconds": 90_061.0, "share": 1.0}
    well |= {"connections": 123_456, "connections_per_second": 12.34, "flows": 1234}
    well |= {"full_syns": 0, "max_connections": None}
    status["backends"] = [{**backend, **well, "name": f"controller-{number}"} for number in (1, 2, 3)]
    status["mirrors"] = [mirror, {**mirror, "name": "audit", "acked_bytes": 12 << 30, "client_bytes": 12 << 30}]
    status["machine"]["kept"] = [{**status["machine"]["kept"][0], "in_place": True, "repairs": 0}]
    status["log"]["records_dropped"] = 0
    return {**status, "condition": NO_PROBLEM, "pair": None, "rules": "/etc/natmirror/rules.yaml"}


def shown(status: dict[str, Any], terminal: terminal_size | None = None, **more: Any) -> list[str]:
    return click.unstyle(status_screen(status, terminal, **more)).splitlines()


def test_the_document_of_these_tests_is_a_status(status: dict[str, Any]) -> None:
    for mirror in status["mirrors"]:
        mirror["state"] = MirrorState(mirror["state"])
    assert_declared(StatusAnswer, status)


@pytest.mark.parametrize("terminal", [NARROW, WIDE])
def test_an_ordinary_host_fits_on_one_screen(status: dict[str, Any], terminal: terminal_size) -> None:
    lines = shown(status, terminal)
    assert len(lines) < terminal.lines
    assert max(map(len, lines)) <= terminal.columns
    assert lines[0] == "OK  natmirror 1.2, up 0:01:00, pid 5"
    assert len([line for line in lines if line.startswith("openflow/")]) == 5, "one line for each row"


def test_columns_that_matter_least_are_left_out_first(status: dict[str, Any]) -> None:
    def titles(width: int) -> list[list[str]]:
        lines = shown(status, terminal_size((width, 24)))
        return [line.split() for line in lines if line.startswith(("backend ", "mirror "))]

    every = [
        ["backend", "state", "for", "open", "total", "new/s", "share", "refused", "unanswered", "weight", "address"],
        ["mirror", "state", "for", "copied", "lag", "rate", "lost", "1", "h", "lost", "mirrored", "resent", "address"],
    ]
    assert titles(400) == every
    narrow = titles(60)
    assert narrow == [
        ["backend", "state", "for", "open", "new/s", "share"],
        ["mirror", "state", "copied", "lag", "rate"],
    ]


def test_without_a_terminal_nothing_is_cut_or_wrapped(status: dict[str, Any]) -> None:
    long = "connection refused " * 20
    status["condition"] = degraded(*(problem(text=f"{number} {long}") for number in range(30)))
    status["backends"][0] |= {"state": "down", "reason": long}
    lines = shown(status)
    assert lines[1] == f"WARNING backend-down: 0 {long} -> see whether its program runs (for 10 s)"
    assert sum(line.startswith("WARNING ") for line in lines) == 30
    assert any(line.startswith("openflow/controller-1") and line.endswith(long.rstrip()) for line in lines)


def test_a_reason_ends_in_an_ellipsis_on_a_terminal(status: dict[str, Any]) -> None:
    status["backends"][0] |= {"state": "down", "reason": "connection refused " * 20}
    lines = shown(status, terminal_size((140, 40)))
    [row] = [line for line in lines if "controller-1" in line]
    assert len(row) == 140 and row.endswith("…") and "10.20.0.11:6653  connection refus" in row


def test_problems_come_first_as_far_as_there_is_room(status: dict[str, Any]) -> None:
    status["condition"] = degraded(*(problem(text=f"number {number} " + "is down " * 10) for number in range(9)))
    lines = shown(status, NARROW)
    assert lines[0].startswith("DEGRADED: 9 problems  natmirror 1.2")
    assert lines[1].startswith("WARNING backend-down: number 0 is down")
    assert lines[2].startswith("    is down")
    [rest] = [line for line in lines if line.startswith("    and ")]
    assert rest == f"    and {9 - sum('number' in line for line in lines)} more: natmirror status | cat"
    assert len(lines) < NARROW.lines
    tiny = shown(status, terminal_size((80, 5)))
    assert "number 0" in tiny[1] and "    and 8 more: natmirror status | cat" in tiny


def test_many_facts_do_not_push_the_condition_off_the_screen(status: dict[str, Any]) -> None:
    entry = {"service": "openflow", "backend": "c1", "mirror": None, "weight": 3, "resets_at": None, "kept": True}
    status["overrides"] = [{**entry, "kind": "weight", "since": AT} for _ in range(30)]
    status["condition"] = degraded(*(problem(text=f"number {number}") for number in range(6)))
    lines = shown(status, NARROW)
    assert len(lines) == NARROW.lines - 1
    assert lines[0].startswith("DEGRADED: 6 problems") and "number 0" in lines[1]
    assert lines[-1].endswith(" more lines: natmirror status | cat")
    assert len(shown(status)) > 40, "without a terminal nothing is left out"


def test_words_of_commands_stay_whole(status: dict[str, Any]) -> None:
    path = "/a-directory/with-a-long-name/of-which-no-part/may-stand/on-another-line"
    status["condition"] = degraded(problem(mend=f"run: rm {path}"))
    assert any(path in line for line in shown(status, NARROW))


def test_repairs_are_no_problems(status: dict[str, Any]) -> None:
    mended = problem("rules-repaired", "nft has changed raw", mended=True)
    status["condition"] = NO_PROBLEM | {"problems": [mended]}
    status["machine"]["kept"] = [
        {**status["machine"]["kept"][0], "repairs": 2},
        {**status["machine"]["kept"][0], "repairs": 1, "repaired_at": AT, "name": "TUN device"},
    ]
    lines = shown(status)
    assert lines[0].startswith("OK: 1 mended  natmirror")
    assert lines[1].startswith("MENDED rules-repaired: nft has changed raw -> ")
    assert any(line.startswith("kernel rules in place, repaired 3 times; 1 connection; ") for line in lines)
    assert lines[-1].startswith("repaired last at 2026-01-02 03:04:00Z: TUN device: chain NATMIRROR-PRE is missing")


def test_states_have_colours_on_a_terminal(status: dict[str, Any]) -> None:
    status["backends"][0]["state"] = "down"
    status["condition"] = degraded(problem(severity="failure"))
    screen = status_screen(status, NARROW)
    assert click.style("DEGRADED: 1 problem", fg="yellow", bold=True) in screen
    assert click.style("FAILURE", fg="red") in screen
    assert click.style("down", fg="red") in screen
    assert click.style("up", fg="green") in screen


def test_what_commands_have_set_is_shown(status: dict[str, Any]) -> None:
    common = {"service": "openflow", "backend": "c1", "mirror": None, "weight": None, "resets_at": None, "kept": False}
    common |= {"since": "2026-11-30T02:00:00.123+00:00"}
    status["overrides"] = [
        {**common, "kind": "drain", "resets_at": "2026-11-30T03:00:00.123+00:00"},
        {**common, "kind": "weight", "weight": 3, "kept": True},
        {**common, "kind": "pause", "backend": None, "mirror": "master"},
    ]
    since = "by a command since 2026-11-30 02:00:00Z"
    lines = shown(status)
    assert f"openflow/c1: drained, resets what is left at 2026-11-30 03:00:00Z, {since}" in lines
    assert f"openflow/c1: weight 3, {since}, also over a restart" in lines
    assert f"mirror openflow/master: paused, {since}" in lines


def test_limits_that_clients_have_met_are_shown(status: dict[str, Any]) -> None:
    limit = {"service": "openflow", "limit": "max-connections", "value": "3", "refused_syns": 7, "limited_clients": 1}
    met = {**limit, "last_client": "10.10.0.11", "last_seconds": 12.0}
    status["client_limits"] = [met, {**limit, "service": "web", "refused_syns": 0, "last_client": None}]
    status["backends"][0] |= {"full_syns": 5, "max_connections": 1300}
    lines = shown(status)
    assert "openflow per client max-connections 3: 7 SYNs refused, the last of 10.10.0.11 12 s ago" in lines
    assert not any("web per client" in line for line in lines)
    status["client_limits"] = [{**met, "limit": "new-connections", "value": "1/s"}]
    assert "openflow per client new-connections 1/s: 7 SYNs dropped, the last of 10.10.0.11 12 s ago" in shown(status)
    [first, second, _] = [line.split() for line in lines if line.startswith("openflow/controller")]
    assert (first[4], first[10], second[10]) == ("1234/1300", "5", "1"), "the column full, and then the weight"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"file_differs": False, "file_error": None}, "as in the file"),
        ({"file_differs": True, "file_error": None}, "the file differs: natmirror reload"),
        ({"file_differs": True, "file_error": "lb.yaml:3: bad"}, "the file cannot be used"),
    ],
)
def test_the_rules_have_their_version_and_what_the_file_has(
    status: dict[str, Any], file: dict[str, Any], words: str
) -> None:
    status["loaded_rules"] |= file
    assert shown(status)[1] == f"rules /etc/natmirror/rules.yaml 06ffda94, since 2026-01-02 03:03:00Z, {words}"


def test_rules_that_are_gone_from_the_kernel_are_named(status: dict[str, Any]) -> None:
    status["machine"]["kept"][0]["in_place"] = False
    assert shown(status)[2].startswith("kernel rules NOT in place: iptables-nft table raw; ")


def test_what_a_mirror_lacks_has_its_reasons(status: dict[str, Any]) -> None:
    [mirror, other] = status["mirrors"]
    mirror["connections_not_copied"] = {"mirror-added": 2}
    mirror["lost_bytes"] = {EndReason.MIRROR_RESET: 18_500, EndReason.STALLED: 700, EndReason.NOT_SAMPLED: 5}
    mirror["lost_bytes_last_hour"] = {EndReason.STALLED: 700, EndReason.NOT_SAMPLED: 5}
    mirror["pending_bytes"] = 0
    other["lost_bytes"] = other["lost_bytes_last_hour"] = {EndReason.HOLE: 3}
    lines = shown(status)
    [row] = [line.split() for line in lines if line.startswith("openflow/master")]
    assert row[:2] + row[4:6] == ["openflow/master", "up", "1/3", "-"], "a lag of none would mean that all is copied"
    assert row[8:12] == ["700", "B", "18.8", "KiB"]
    assert "connections not copied now to openflow/master: mirror-added 2" in lines
    assert "lost by openflow/master: mirror-reset 18.1 KiB, stalled 700 B; in the last hour stalled 700 B" in lines
    assert "lost by openflow/audit: hole 3 B, all in the last hour" in lines
    status["condition"] = degraded(problem("not-copied", subject="openflow/master"))
    assert not any(line.startswith("connections not copied") for line in shown(status)), "the problem has the reasons"


def test_a_verdict_is_one_line(status: dict[str, Any]) -> None:
    summary = "254 of 310 comparable answers equal (81.9 %); a rule is missing, all where arp"
    status["mirrors"][0]["verdict"] = {"verdict": "differs", "summary": summary}
    assert f"verdict on openflow/master (last hour): DIFFERS: {summary}" in shown(status)


def test_what_an_interruption_would_cost_stands_below(status: dict[str, Any]) -> None:
    status["costs"]["move"] = {"connections": 0, "copies_ended": 0, "copies_begun_again": 0}
    assert shown(status)[-2:] == [
        "a restart now: 2 connections may be reset, 3 copies end",
        "a move now: costs no connection and no copy",
    ]


def test_what_is_not_as_it_should_be_stands_below(status: dict[str, Any]) -> None:
    machine = status["machine"]
    machine |= {"kernel_translation_off_because": "nft is missing", "paths_checked": False, "internal_errors": 1}
    status["log"]["records_dropped"] = 3
    assert shown(status)[-4:] == [
        "the kernel does not translate addresses: nft is missing",
        "mirrors' and backends' packets are taken from each interface: iptables or the kernel lacks rpfilter",
        "internal errors, see the log: packets and requests 1",
        "log messages not written: dropped 3",
    ]


def test_counters_are_shown_if_they_are_asked_for(status: dict[str, Any]) -> None:
    assert "queue 6653: " not in "\n".join(shown(status))
    lines = shown(status, with_counters=True)
    assert any(line.startswith("memory of the largest client: ") for line in lines)
    assert any(line.startswith("queue 6653: packets_received 7") for line in lines)
    assert any(line.startswith("counters: flows_opened 1") for line in lines)


SHARED = {
    "store": "redis://h",
    "state": "connecting",
    "records": 7,
    "records_rejected": 0,
    "waiting_writes": 3,
    "lag_seconds": 1.25,
    "last_change_seconds": None,
    "outages": 2,
    "error": "Connection refused",
}


@pytest.mark.parametrize(
    ("shared", "line"),
    [
        (dict(OFF), "none (the rules have no ha.state): a takeover ends all legs, and may reset pinned flows"),
        (
            SHARED,
            "redis://h connecting, 7 records of the other host, 3 own changes not written for 1.2 s, outages 2,"
            " Connection refused",
        ),
        (
            SHARED
            | {"state": "complete", "waiting_writes": 0, "lag_seconds": 0.0, "outages": 0, "error": None}
            | {"records_rejected": 1},
            "redis://h complete, 7 records of the other host, 1 rejected: the hosts' rules, ha.key or versions differ",
        ),
    ],
)
def test_a_host_of_a_pair_has_its_role_and_the_shared_state(
    status: dict[str, Any], shared: dict[str, Any], line: str
) -> None:
    lines = shown({**status, "pair": PAIR, "shared_state": shared, "pinned_flows": 4})
    assert lines[3:6] == [
        "pair lb1 and lb2: this host is backup since 2026-01-02 03:03:00Z",
        f"shared state: {line}",
        "pinned flows: 4, whose backend the rules alone do not give",
    ]


def test_the_entries_of_findings_are_problems(status: dict[str, Any]) -> None:
    """The screen shows the remedy that the finding has, word by word."""
    findings = Findings(lambda: SINCE)
    found = HostCode.NO_FORWARDING.found(interfaces="sw0", settings="net.ipv4.ip_forward=1")
    findings.replace("host", [found, OwnCode.RULES_REPAIRED.found(name="raw", difference="gone", program="nft")])
    status["condition"] = {"state": "not-fit", "unfit_because": str(found), "problems": findings.show()}
    lines = shown(status)
    assert lines[0].startswith("NOT FIT: 1 problem, 1 mended  natmirror")
    assert re.fullmatch(r"FAILURE no-forwarding: .* -> run: sysctl -w net\.ipv4\.ip_forward=1 \(for 10 s\)", lines[1])
