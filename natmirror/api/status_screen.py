"""One screen of a running natmirror: its condition with each problem, then backends and mirrors, and what matters now.

On a terminal, columns are dropped and problems are counted rather than shown until it fits. Elsewhere each problem is
one line, and nothing is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from os import terminal_size
from textwrap import TextWrapper
from typing import Any

import click

from natmirror.api import report
from natmirror.api.override_text import override_rows
from natmirror.api.tables import Column, table
from natmirror.api.text import age, counted, duration, listed, moment, size, sizes
from natmirror.openflow.comparison.numbers import WORDS
from natmirror.reasons import NOT_LOST, ClientLimit

Status = Mapping[str, Any]

_CONDITIONS = {"ok": ("OK", "green"), "degraded": ("DEGRADED", "yellow"), "not-fit": ("NOT FIT", "red")}
_SEVERITIES = {"failure": ("FAILURE", "red"), "warning": ("WARNING", "yellow")}
_MENDED = ("MENDED", None)
_COLOURS = {
    **dict.fromkeys(("up", "complete"), "green"),
    **dict.fromkeys(("down", "panic"), "red"),
    **dict.fromkeys(("draining", "behind", "paused"), "yellow"),
}
_FATES = {ClientLimit.MAX_CONNECTIONS: "refused", ClientLimit.NEW_CONNECTIONS: "dropped"}
_TELL_WHAT_IS_NOT_COPIED = ("mirror-down", "not-copied")
_INDENT = " " * 4
_PROMPT_LINES = 1  # the line of the shell below the screen


def status_screen(status: Status, terminal: terminal_size | None, *, with_counters: bool = False) -> str:
    """Return the screen; ``terminal`` is None for another program, a file or a pipe."""
    width = None if terminal is None else terminal.columns
    blocks = [
        _wrapped(_facts_of_host(status), width),
        table(BACKENDS, status["backends"], width) if status["backends"] else [],
        table(MIRRORS, status["mirrors"], width) if status["mirrors"] else [],
    ]
    above = "\n\n".join("\n".join(block) for block in blocks if block).splitlines()
    facts = _wrapped([*_facts(status), *(_counters(status) if with_counters else ())], width)
    below = [*above, "", *facts] if facts else above
    if terminal is None:
        return "\n".join((head_line(status), *problem_lines(status, width, None), *below))
    room = terminal.lines - _PROMPT_LINES - 1
    problems = [*problem_lines(status, width, room - len(below))]
    if not with_counters:
        below = _shortened(below, len(above), room - len(problems))
    return "\n".join((head_line(status), *problems, *below))


def _shortened(lines: list[str], least: int, room: int) -> list[str]:
    """Return the lines, without the last ones if there is no room: the condition must not leave the screen. The first
    ``least`` lines stay."""
    if len(lines) <= max(room, least):
        return lines
    kept = max(room - 1, least)
    return [*lines[:kept], f"{len(lines) - kept} more lines: natmirror status | cat"]


def head_line(status: Status) -> str:
    """Return the first line: the condition, and natmirror itself."""
    word, colour = _CONDITIONS[status["condition"]["state"]]
    problems = status["condition"]["problems"]
    mended = sum(one["mended"] for one in problems)
    count = len(problems) - mended
    parts = [counted(count, "problem")] if count else []
    parts += [f"{mended} mended"] if mended else []
    shown = click.style(": ".join([word, *filter(None, [", ".join(parts)])]), fg=colour, bold=True)
    return f"{shown}  natmirror {status['version']}, up {duration(status['uptime_seconds'])}, pid {status['pid']}"


# Problems


def problem_lines(status: Status, width: int | None, room: int | None) -> Iterator[str]:
    """Yield the lines of the problems that have room, of the first one in any case, and how many are left out."""
    problems = status["condition"]["problems"]
    used = 0
    for number, one in enumerate(problems):
        lines = _problem(one, status["at"], width)
        used += len(lines)
        is_last = number == len(problems) - 1
        if number and room is not None and used + (not is_last) > room:
            yield f"{_INDENT}and {len(problems) - number} more: natmirror status | cat"
            return
        yield from lines


def _problem(one: Status, at: str, width: int | None) -> list[str]:
    word, colour = _MENDED if one["mended"] else _SEVERITIES[one["severity"]]
    since = "" if one["since"] is None else f" (for {age(_seconds(one['since'], at))})"
    remedy = "; ".join(one["mend"].splitlines())
    text = f"{word} {one['code']}: {one['problem']} -> {remedy}{since}"
    first, *others = _wrapped([text], width)
    return [click.style(word, fg=colour) + first.removeprefix(word), *others]


def _seconds(since: str, at: str) -> float:
    return max((datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds(), 0.0)


def _wrapped(texts: Iterable[str], width: int | None) -> list[str]:
    """Return texts as lines that fit. Paths, names and options stay whole, so that commands can be copied."""
    if width is None:
        return [*texts]
    wrapper = TextWrapper(width, subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False)
    return [line for text in texts for line in wrapper.wrap(text)]


# Facts


def _facts_of_host(status: Status) -> Iterator[str]:
    loaded, kept = status["loaded_rules"], status["machine"]["kept"]
    file = "as in the file"
    if loaded["file_differs"]:
        file = "the file differs: natmirror reload" if loaded["file_error"] is None else "the file cannot be used"
    yield f"rules {status['rules']} {loaded['version']}, since {moment(loaded['loaded_at'])}, {file}"
    missing = [one["name"] for one in kept if not one["in_place"]]
    repairs = sum(one["repairs"] for one in kept)
    kernel = f"kernel rules NOT in place: {', '.join(missing)}" if missing else "kernel rules in place"
    kernel += f", repaired {counted(repairs, 'time')}" if repairs else ""
    memory = status["mirror_memory"]
    used = f"mirror-memory {size(memory['used_bytes'])} of {size(memory['limit_bytes'])}"
    yield f"{kernel}; {counted(status['flows'], 'connection')}; {used}"
    if (pair := status["pair"]) is not None:
        source = (
            "" if pair["source"] == "keepalived" else ", inferred from its addresses: keepalived has not reported it"
        )
        yield f"pair {' and '.join(pair['hosts'])}: this host is {pair['role']} since {moment(pair['since'])}{source}"
        yield f"shared state: {_shared_state(status['shared_state'])}"
        yield f"pinned flows: {status['pinned_flows']}, whose backend the rules alone do not give"


def _shared_state(shared: Status) -> str:
    if shared["store"] is None:
        return "none (the rules have no ha.state): a takeover ends all legs, and may reset pinned flows"
    parts = [f"{shared['store']} {shared['state']}", f"{shared['records']} records of the other host"]
    if shared["waiting_writes"]:
        parts.append(f"{shared['waiting_writes']} own changes not written for {shared['lag_seconds']:.1f} s")
    if shared["records_rejected"]:
        parts.append(f"{shared['records_rejected']} rejected: the hosts' rules, ha.key or versions differ")
    if shared["outages"]:
        parts.append(f"outages {shared['outages']}")
    if shared["error"]:
        parts.append(shared["error"])
    return ", ".join(parts)


def _facts(status: Status) -> Iterator[str]:
    """Yield what mirrors lack, what interruptions would cost, and what else is not as it should be."""
    machine = status["machine"]
    yield from (f"{name}: {text}" for name, text in override_rows(status["overrides"]))
    yield from _client_limits(status["client_limits"])
    told = {one["subject"] for one in status["condition"]["problems"] if one["code"] in _TELL_WHAT_IS_NOT_COPIED}
    for mirror in status["mirrors"]:
        yield from _facts_of_mirror(mirror, is_told=_name(mirror) in told)
    for what, cost in status["costs"].items():
        if cost is not None:
            yield f"a {what} now: {_cost(cost)}"
    if why := machine["kernel_translation_off_because"]:
        yield f"the kernel does not translate addresses: {why}"
    if not machine["paths_checked"]:
        yield "mirrors' and backends' packets are taken from each interface: iptables or the kernel lacks rpfilter"
    repaired = [one for one in machine["kept"] if one["repairs"]]
    if repaired:
        last = max(repaired, key=lambda one: one["repaired_at"])
        what = f"{last['name']}: {last['difference']} (changed by {last['changed_by']})"
        yield f"repaired last at {moment(last['repaired_at'])}: {what}; natmirror events has all repairs"
    yield from (f"{name}: {text}" for name, text in report.internal_errors(status, machine))
    not_written = {name: status["log"][f"records_{name}"] for name in ("dropped", "suppressed")}
    if any(not_written.values()):
        yield f"log messages not written: {listed(not_written)}"


def _client_limits(limits: Iterable[Status]) -> Iterator[str]:
    """Yield the limits per client that clients have met."""
    for one in limits:
        if one["refused_syns"]:
            fate = _FATES[ClientLimit(one["limit"])]
            refused = f"{one['refused_syns']} SYNs {fate}, the last of {one['last_client']}"
            limit = f"{one['service']} per client {one['limit']} {one['value']}"
            yield f"{limit}: {refused} {age(one['last_seconds'])} ago"


def _facts_of_mirror(mirror: Status, *, is_told: bool) -> Iterator[str]:
    name = _name(mirror)
    if mirror["connections_not_copied"] and not is_told:
        yield f"connections not copied now to {name}: {listed(mirror['connections_not_copied'])}"
    if mirror["connections_excluded"]:
        yield f"connections that the rules leave out for {name}: {listed(mirror['connections_excluded'])}"
    if lost := _lost(mirror["lost_bytes"]):
        hour = _lost(mirror["lost_bytes_last_hour"])
        when = ", all in the last hour" if hour == lost else f"; in the last hour {sizes(hour)}"
        yield f"lost by {name}: {sizes(lost)}{when}"
    if (verdict := mirror["verdict"]) is not None:
        yield f"verdict on {name} (last hour): {WORDS[verdict['verdict']]}: {verdict['summary']}"


def _lost(counters: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counters.items() if reason not in NOT_LOST}


def _cost(cost: Mapping[str, int]) -> str:
    """Return what an interruption would cost."""
    ended, begun_again = cost["copies_ended"], cost["copies_begun_again"]
    parts = {
        f"{counted(cost['connections'], 'connection')} may be reset": cost["connections"],
        f"{ended} {'copy ends' if ended == 1 else 'copies end'}": ended,
        f"{begun_again} {'copy begins' if begun_again == 1 else 'copies begin'} again in the middle": begun_again,
    }
    return ", ".join(text for text, count in parts.items() if count) or "costs no connection and no copy"


def _counters(status: Status) -> Iterator[str]:
    memory = status["mirror_memory"]
    largest = f"{size(memory['largest_client_bytes'])} of {size(memory['client_limit_bytes'])}"
    yield f"memory of the largest client: {largest}"
    yield f"counters: {listed(status['counters'])}"
    yield from (f"{name}: {text}" for name, text in report.packets(status, status["machine"]))
    for mirror in status["mirrors"]:
        name = _name(mirror)
        if mirror["legs_ended"]:
            yield f"ended legs of {name}: {listed(mirror['legs_ended'])}"
        if sessions := report.sessions(mirror):
            yield f"OpenFlow sessions of {name}: {'; '.join(sessions)}"


# Backends and mirrors


def _name(row: Status) -> str:
    return f"{row['service']}/{row['name']}"


def _colour(row: Status) -> str | None:
    return _COLOURS.get(row["state"])


def _age(row: Status) -> str:
    return "" if row["state_seconds"] is None else age(row["state_seconds"])


def _share(backend: Status) -> str:
    return "" if backend["share"] is None else f"{backend['share']:.0%}"


def _warns(name: str) -> Any:
    """Return a function that colours a counter that is not 0."""
    return lambda row: "yellow" if row[name] else None


def _open(backend: Status) -> str:
    """Return the connections, with their limit if there is one."""
    most = backend["max_connections"]
    return str(backend["flows"]) if most is None else f"{backend['flows']}/{most}"


BACKENDS: Sequence[Column] = (
    Column("backend", 1, _name),
    Column("state", 2, lambda row: str(row["state"]), colour=_colour),
    Column("for", 6, _age, is_number=True),
    Column("open", 3, _open, is_number=True),
    Column("total", 7, lambda row: str(row["connections"]), is_number=True),
    Column("new/s", 4, lambda row: f"{row['connections_per_second']:.1f}", is_number=True),
    Column("share", 5, _share, is_number=True),
    Column("refused", 8, lambda row: str(row["refused_syns"]), is_number=True),
    Column("unanswered", 9, lambda row: str(row["unanswered_syns"]), is_number=True),
    Column("full", 10, lambda row: str(row["full_syns"] or ""), is_number=True, may_be_absent=True),
    Column("weight", 11, lambda row: "" if row["weight"] is None else str(row["weight"]), is_number=True),
    Column("address", 12, lambda row: str(row["address"])),
    Column("reason", 13, lambda row: str(row["reason"]), may_be_cut=True, may_be_absent=True),
)


def _copied(mirror: Status) -> str:
    """Return how many connections the mirror gets, of those that it should get."""
    every = mirror["legs"] + sum(mirror["connections_not_copied"].values())
    return f"{mirror['legs'] - mirror['legs_unanswered']}/{every}"


def _lacks(mirror: Status) -> bool:
    """Return whether there are connections that the mirror should get, and does not get now."""
    return bool(mirror["connections_not_copied"] or mirror["legs_unanswered"])


def _lag(mirror: Status) -> str:
    """Return how far a mirror is behind; ``none`` only if it gets all connections that it should get."""
    if mirror["pending_bytes"]:
        return f"{size(mirror['pending_bytes'])}, {mirror['lag_seconds']:.1f} s"
    return "-" if _lacks(mirror) else "none"


def _lag_colour(mirror: Status) -> str | None:
    return "yellow" if mirror["state"] == "behind" or _lacks(mirror) else None


MIRRORS: Sequence[Column] = (
    Column("mirror", 1, _name),
    Column("state", 2, lambda row: str(row["state"]), colour=_colour),
    Column("for", 8, _age, is_number=True),
    Column("copied", 3, _copied, is_number=True, colour=lambda row: "yellow" if _lacks(row) else None),
    Column("lag", 4, _lag, is_number=True, colour=_lag_colour),
    Column("rate", 5, lambda row: f"{size(round(row['acked_bytes_per_second']))}/s", is_number=True),
    Column("lost 1 h", 6, lambda row: size(sum(_lost(row["lost_bytes_last_hour"]).values())), is_number=True),
    Column("lost", 7, lambda row: size(sum(_lost(row["lost_bytes"]).values())), is_number=True),
    Column("mirrored", 10, lambda row: f"{size(row['acked_bytes'])} of {size(row['client_bytes'])}", is_number=True),
    Column("resent", 9, lambda row: str(row["retransmits"]), is_number=True),
    Column("address", 11, lambda row: str(row["address"])),
    Column("reason", 12, lambda row: row["reason"] or "", may_be_cut=True, may_be_absent=True),
)
