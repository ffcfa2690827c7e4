"""Flows, legs, sessions and ended legs as text: a table as wide as the terminal, or lines for other programs.

A line for other programs has a row's fields as the API shows them, between tabs, below a line with their names.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from natmirror.api import tables
from natmirror.api.tables import Column, Row
from natmirror.api.text import duration, size


class Listing(NamedTuple):
    """How a kind of rows looks: the columns of the table, and the fields of a line."""

    columns: tuple[Column, ...]
    fields: tuple[str, ...]


def _field(title: str, rank: int, name: str) -> Column:
    return Column(title, rank, lambda row: "" if row[name] is None else str(row[name]))


def _leg_state(leg: Row) -> str:
    state = "no leg" if leg["state"] == "none" else leg["state"]
    return f"{state}: {leg['reason']}" if leg["reason"] else str(state)


def _leg_colour(leg: Row) -> str | None:
    return {"established": "green", "ended": "red", "none": "red"}.get(leg["state"])


def _lag(leg: Row) -> str:
    return f"{size(leg['lag_bytes'])}, {leg['lag_seconds']:.1f} s" if leg["lag_bytes"] else "none"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f} ms"


def _total(name: str) -> Callable[[Row], str]:
    return lambda row: str(sum(row[name].values()))


def _datapath(row: Row) -> str:
    """Return the switch's datapath id as it is usually written; empty while it is not known."""
    return "" if row["datapath_id"] is None else f"{row['datapath_id']:016x}"


FLOWS = Listing(
    (
        _field("client", 1, "client"),
        _field("service", 6, "service"),
        _field("backend", 2, "backend"),
        _field("state", 3, "state"),
        Column("idle", 5, lambda row: "" if row["idle_seconds"] is None else duration(row["idle_seconds"]), True),
        Column("sent", 7, lambda row: size(row["client_bytes"]), True),
        Column("received", 8, lambda row: "" if row["backend_bytes"] is None else size(row["backend_bytes"]), True),
        Column("copies", 4, lambda row: ", ".join(f"{leg['mirror']} {_leg_state(leg)}" for leg in row["legs"])),
    ),
    ("client", "service", "backend", "state", "idle_seconds", "guest", "client_bytes", "backend_bytes", "legs"),
)

LEGS = Listing(
    (
        _field("client", 1, "client"),
        _field("service", 9, "service"),
        _field("backend", 5, "backend"),
        _field("connection", 7, "flow_state"),
        _field("mirror", 2, "mirror"),
        Column("leg", 3, _leg_state, colour=_leg_colour),
        Column("mirrored", 6, lambda row: f"{row['acked_bytes']} of {row['client_bytes']}", True),
        Column("lag", 4, _lag, True),
        Column("resent", 8, lambda row: str(row["retransmits"]), True),
        Column("rtt", 10, lambda row: _milliseconds(row["rtt_seconds"]), True),
    ),
    (
        *("client", "service", "backend", "flow_state", "mirror", "state", "reason"),
        *("client_bytes", "sent_bytes", "acked_bytes", "in_flight_bytes", "lag_bytes", "lag_seconds", "lag_since"),
        *("consumed_bytes", "retransmits", "timeouts", "rtt_seconds", "messages_missed", "address"),
    ),
)

SESSIONS = Listing(
    (
        _field("client", 1, "client"),
        _field("mirror", 2, "mirror"),
        Column("datapath", 3, _datapath),
        _field("role", 4, "role"),
        _field("version", 9, "version"),
        Column("passed", 5, _total("messages_passed"), True),
        Column("withheld", 6, _total("messages_withheld"), True),
        Column("requests", 7, _total("requests"), True),
        Column("orders", 8, _total("orders"), True),
    ),
    (
        *("client", "service", "mirror", "version", "datapath_id", "role", "features_sent"),
        *("messages_passed", "messages_withheld", "requests", "orders", "oldest_statistics_seconds"),
    ),
)

ENDED = Listing(
    (
        _field("ended", 2, "ended_at"),
        _field("client", 1, "client"),
        Column("mirror", 3, lambda row: f"{row['service']}/{row['mirror']}"),
        _field("reason", 4, "reason"),
        _field("closed by", 6, "ended_by"),
        Column("mirrored", 5, lambda row: f"{row['acked_bytes']} of {row['client_bytes']}", True),
    ),
    ("ended_at", "client", "service", "mirror", "reason", "client_bytes", "acked_bytes", "ended_by"),
)


def session_rows(legs: Iterable[Row]) -> list[Row]:
    """Return a row for each OpenFlow session of legs."""
    return [{**leg, **leg["session"]} for leg in legs if leg["session"] is not None]


def table(listing: Listing, rows: Iterable[Row], width: int) -> str:
    """Return rows as a table of at most ``width`` characters, unless the column that matters most is wider."""
    return "\n".join(tables.table(listing.columns, rows, width))


def lines(listing: Listing, rows: Iterable[Row]) -> str:
    """Return rows as lines for other programs, one for each, below a line with the names of the fields."""
    words = ([_word(row[name]) for name in listing.fields] for row in rows)
    return "\n".join("\t".join(line) for line in (listing.fields, *words))


def _word(value: Any) -> str:
    """Return a field's value as one word without tabs; ``-`` for null and for nothing."""
    if isinstance(value, list):
        return ",".join(f"{leg['mirror']}:{leg['reason'] or leg['state']}" for leg in value) or "-"
    if isinstance(value, dict):
        return ",".join(f"{name}={count}" for name, count in value.items()) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value in (None, "") else str(value)
