"""Rows as a table for a terminal, and as lines for other programs."""

import click
import pytest

from natmirror.api.list_tables import ENDED, FLOWS, LEGS, SESSIONS, Listing, lines, session_rows, table
from natmirror.api.tables import Row

SESSION = {
    "version": "1.3",
    "datapath_id": 0x1A2B,
    "role": "equal",
    "features_sent": True,
    "messages_passed": {"packet_in": 3, "echo_request": 20},
    "messages_withheld": {},
    "requests": {"answered": 12},
    "orders": {"flow_mod": 4},
    "oldest_statistics_seconds": 0.0,
}
LEG = {
    "client": "192.168.100.101:40001",
    "service": "openflow",
    "backend": "controller-1",
    "flow_state": "established",
    "mirror": "master",
    "state": "ended",
    "reason": "connect-timeout",
    "address": "10.20.0.1:10240",
    "client_bytes": 500_000_000,
    "sent_bytes": 7,
    "acked_bytes": 499_000_000,
    "in_flight_bytes": 0,
    "lag_bytes": 20_000,
    "lag_seconds": 2.51,
    "lag_since": "2026-01-02T03:04:05.678+00:00",
    "consumed_bytes": 0,
    "retransmits": 3,
    "timeouts": 1,
    "rtt_seconds": 0.0004,
    "messages_missed": 0,
    "session": SESSION,
}
FLOW = {
    "client": "192.168.100.101:40001",
    "service": "openflow",
    "backend": None,
    "state": "half-closed",
    "idle_seconds": 3700.2,
    "guest": False,
    "client_bytes": 500_000_000,
    "backend_bytes": None,
    "legs": [LEG, {**LEG, "mirror": "audit", "state": "established", "reason": None}],
}
END = {
    "ended_at": "2026-01-02T03:04:05.678+00:00",
    "client": "192.168.100.101:40001",
    "service": "openflow",
    "mirror": "master",
    "reason": "mirror-reset",
    "ended_by": "mirror",
    "client_bytes": 5,
    "acked_bytes": 3,
}
ROWS: list[tuple[Listing, Row]] = [
    (FLOWS, FLOW),
    (LEGS, LEG),
    (SESSIONS, session_rows([LEG, {**LEG, "session": None}])[0]),
    (ENDED, END),
]


@pytest.mark.parametrize("width", [24, 60, 80, 120, 400])
@pytest.mark.parametrize(("listing", "row"), ROWS)
def test_a_table_is_as_wide_as_the_terminal_and_keeps_what_matters_most(listing: Listing, row: Row, width: int) -> None:
    text = click.unstyle(table(listing, [row, row], width)).splitlines()
    assert len(text) == 3
    assert max(map(len, text)) <= width
    assert text[1] == text[2]
    assert row["client"] in text[1]
    if width == 400:
        assert text[0].split() == " ".join(column.title for column in listing.columns).split()


def test_a_terminal_of_80_columns_shows_what_a_leg_lacks() -> None:
    head, leg = click.unstyle(table(LEGS, [LEG], 80)).splitlines()
    assert head.split() == ["client", "mirror", "leg", "lag"]
    assert leg.split() == ["192.168.100.101:40001", "master", "ended:", "connect-timeout", "19.5", "KiB,", "2.5", "s"]
    head, _ = table(SESSIONS, [session_rows([LEG])[0]], 80).splitlines()
    assert head.split()[:4] == ["client", "mirror", "datapath", "role"]


def test_an_empty_table_has_its_titles() -> None:
    titles = "client service backend connection mirror leg mirrored lag resent rtt"
    assert table(LEGS, [], 400).split() == titles.split()


@pytest.mark.parametrize(("listing", "row"), ROWS)
def test_a_line_has_each_field_between_tabs(listing: Listing, row: Row) -> None:
    head, line = lines(listing, [row]).splitlines()
    assert head.split("\t") == list(listing.fields)
    words = line.split("\t")
    assert len(words) == len(listing.fields)
    assert all(word and " " not in word for word in words)


def test_a_line_has_copies_and_counters_as_one_word() -> None:
    flow = dict(zip(FLOWS.fields, lines(FLOWS, [FLOW]).splitlines()[1].split("\t"), strict=True))
    assert flow["legs"] == "master:connect-timeout,audit:established"
    assert (flow["backend"], flow["guest"], flow["idle_seconds"]) == ("-", "false", "3700.2")
    session = dict(zip(SESSIONS.fields, lines(SESSIONS, session_rows([LEG])).splitlines()[1].split("\t"), strict=True))
    assert session["messages_passed"] == "packet_in=3,echo_request=20"
    assert session["messages_withheld"] == "-"
