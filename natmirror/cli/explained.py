"""The text of ``natmirror explain``: a few lines for an operator at night. The words' sentences are those of
the reference. A word may be plain text here, from the API, or a member of its enumeration.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache

from natmirror import docstrings
from natmirror.api.text import age, counted
from natmirror.backends.shown import AdmissionEntry, BackendState
from natmirror.engine.explained import ClientUseEntry, FailureEntry, FailureKind, Obstacle, PoolMemberEntry
from natmirror.mirror.shown import CopyEntry, CopyWait, ForeseenCopy, SessionWait
from natmirror.nat.new_connections import Opening
from natmirror.reasons import EndReason
from natmirror.replication.synchroniser import SyncState
from natmirror.rules import Balance
from natmirror.runtime.explained import (
    AddressEntry,
    AddressKind,
    ConnectionFate,
    CopyFate,
    ExplainAnswer,
    ExplainedConnection,
    ExplainedService,
    OutcomeEntry,
)

_MOST_BACKENDS = 8
_MOST_GROUPS = 10  # of connections that fare alike
_MOST_PORTS = 8
_BALANCES = {
    Balance.ROUND_ROBIN: "it is the next in turn, unless another client of this packet thread comes first",
    Balance.LEAST_CONNECTIONS: "it has the fewest connections for its weight now",
    Balance.PRIORITY: "it is the first open backend in the order of the rules",
}

_FATES = {
    Opening.WATCHED: "passes unchanged",
    Opening.DROPPED: "is dropped",
    Opening.REFUSED: "is refused",
    Opening.CLIENT_FULL: "is refused",
    Opening.CLIENT_TOO_FAST: "is dropped",
    Opening.PAST_SERVICE: "is dropped",
    Opening.NO_CLIENT: "passes untouched",
    Opening.NO_ROOM: "is not copied",
}
"""What becomes of a new connection that natmirror gives to no backend, or not as usual."""


def text(answer: ExplainAnswer) -> str:
    """Return an answer as lines of text."""
    return "\n".join((*_head(answer), *(line for one in _blocks(answer) for line in one)))


def _head(answer: ExplainAnswer) -> Iterator[str]:
    client = answer["client"]
    queues = " and ".join(f"queue {number}" for number in answer["queues"])
    if answer["in_switches"]:
        yield f"{client} is a client: packet thread {answer['thread']} has it, {queues}"
    else:
        yield (
            f"{client} is no client: it is in none of the networks in switches. natmirror leaves its packets alone, so"
            " that they reach no backend by a service's address"
        )
    for one in answer["address_is"]:
        yield f"{client.partition(':')[0]} is also {_address(one)}"
    if not answer["in_switches"]:
        return
    if not answer["running"]:
        yield "By the rules alone, as after a start, while all backends are up:"
    elif not answer["active"]:
        yield "This host is the standby of its pair. It would do this if it took over now; the other host knows more:"
    if answer["shared_state"] != SyncState.OFF:
        yield f"The pair's shared state is {answer['shared_state']}: {_sentence(answer['shared_state'], SyncState)}"


def _address(one: AddressEntry) -> str:
    if one["kind"] == AddressKind.THIS_HOST:
        return (
            "an address of this host. A connection that this host itself opens to a service is not translated, because"
            " it comes in by no interface"
        )
    return f"the address of the {one['kind']} {one['name']}"


def _blocks(answer: ExplainAnswer) -> Iterator[Iterator[str]]:
    if answer["in_switches"]:
        yield from (_service(one, is_running=answer["running"]) for one in answer["services"])
    alike: dict[tuple[str, ...], list[ExplainedConnection]] = {}
    for connection in answer["connections"]:
        lines = _connection(connection, answer["reload_refused"])
        alike.setdefault((_where(connection), *lines), []).append(connection)
    shown = list(alike.items())[:_MOST_GROUPS]
    for (where, *lines_of_all), connections in shown:
        yield iter((_named(connections, where), *lines_of_all))
    if answer["running"]:
        yield _rest(answer["connection_count"], sum(len(connections) for _, connections in shown))


def _rest(count: int, shown: int) -> Iterator[str]:
    if not count:
        yield "no connection now"
    elif count > shown:
        yield f"and {count - shown} more connections: --json has up to 100, natmirror flows has all"


# A new connection


def _service(one: ExplainedService, *, is_running: bool) -> Iterator[str]:
    chosen = next((member for member in one["pool"] if member["backend"] == one["backend"]), None)
    yield f"{one['service']} {one['address']}: a new connection {_opening(one, chosen)}"
    if is_running and (use := one["per_client"]) is not None:
        yield f"  {_use(use)}"
    if one["has_tried_all"]:
        yield "  all open backends have lately failed this client, so that it avoids none of them"
    if one["first_choice"] is not None:
        yield f"  {_first_choice(one)}"
    notable = _notable(one) if is_running else []
    for member in notable[:_MOST_BACKENDS]:
        yield f"  {member['backend']}: {_member(member, one['states'].get(member['backend']))}"
    if (more := len(notable) - _MOST_BACKENDS) > 0:
        yield f"  and {counted(more, 'more backend')} with an obstacle: see --json"
    for copy in one["copies"]:
        yield f"  {_foreseen(copy)}"


def choice(one: ExplainedService) -> Iterator[str]:
    """Yield lines that say why the client's connections get the backend that they get now."""
    if one["first_choice"] is not None:
        yield _first_choice(one)
    elif one["balance"] is not None:
        yield f"the pool's balance is {one['balance']}"
    for member in _notable(one)[:_MOST_BACKENDS]:
        if member["obstacles"]:
            yield f"{member['backend']}: {_member(member, one['states'].get(member['backend']))}"


def _first_choice(one: ExplainedService) -> str:
    return f"its first choice is {one['first_choice']}: by its hash it has Maglev's slot {one['slot']} of 65537"


def _opening(one: ExplainedService, chosen: PoolMemberEntry | None) -> str:
    if one["opening"] != Opening.TO_BACKEND:
        return f"{_FATES[Opening(one['opening'])]}: {_sentence(one['opening'], Opening)}"
    if one["needs_port"]:
        return "goes to a backend that depends on the client's port (hash: address-port): ask for CLIENT:PORT"
    assert chosen is not None, "a backend of the pool"
    where = f"goes to {chosen['backend']} ({chosen['address']})"
    if chosen["backend"] not in one["states"]:
        return f"{where}, the sorry server, because no backend is open"
    why = _BALANCES.get(one["balance"]) if one["balance"] is not None else None
    return f"{where}: {why}" if why else where


def _use(use: ClientUseEntry) -> str:
    count, most, rate = use["connections"], use["max_connections"], use["new_connections"]
    has = counted(count, "connection") if most is None else f"{count} of {counted(most, 'connection')}"
    refused = "; its next SYN is refused" if most is not None and count >= most else ""
    if rate is None:
        return f"the client has {has}{refused}"
    left = use["new_connections_left"]
    dropped = "; its next SYN is dropped" if not left else refused
    return f"the client has {has}, and may open {left} now (new-connections: {rate}){dropped}"


def _notable(one: ExplainedService) -> list[PoolMemberEntry]:
    """Return the backends that explain the choice: the one that is chosen, the first choice, those with an obstacle."""
    if one["opening"] in (Opening.NO_CLIENT, Opening.PAST_SERVICE, Opening.CLIENT_FULL, Opening.CLIENT_TOO_FAST):
        return []
    named = (one["backend"], one["first_choice"])
    found = [member for member in one["pool"] if member["backend"] in named or member["obstacles"]]
    return sorted(found, key=lambda member: member["backend"] not in named)


def _member(member: PoolMemberEntry, state: AdmissionEntry | None) -> str:
    reasons = [_obstacle(obstacle, member, state) for obstacle in member["obstacles"]]
    return "; ".join(reasons or [_state(state)]) + f"; {counted(member['connections'], 'connection')}"


def _obstacle(obstacle: Obstacle, member: PoolMemberEntry, state: AdmissionEntry | None) -> str:
    match obstacle:
        case Obstacle.FULL:
            return f"full: max-connections is {member['max_connections']}"
        case Obstacle.SLOW_START:
            return f"in its slow start, with {100 * member['share']:.0f} % of its clients, and not yet this one"
        case Obstacle.WEIGHTS:
            return (
                f"by the weights that commands have set, it leaves this client to another (its own: {member['weight']})"
            )
        case Obstacle.FAILED if (failure := member["failure"]) is not None:
            return _failure(failure)
    return _state(state)


def _failure(failure: FailureEntry) -> str:
    for_time = f"for {age(failure['avoided_seconds'])} more"
    ago = age(failure["failed_seconds"])
    if failure["kind"] == FailureKind.REFUSED:
        return f"it refused this client's SYN {ago} ago, so the client's new connections avoid it {for_time}"
    return (
        f"it left this client's SYN of {ago} ago unanswered, so the client's new connections avoid it {for_time}, or"
        " until it accepts a connection of any client"
    )


def _state(state: AdmissionEntry | None) -> str:
    if state is None:
        return "the sorry server, for the time when no backend is open"
    since = "" if state["state_seconds"] is None else f" for {age(state['state_seconds'])}"
    match state["state"]:
        case BackendState.DOWN | BackendState.PANIC:
            return f"{state['state']}{since}: {state['reason']}"
        case BackendState.DRAINING:
            return "drained: natmirror undrain gives it new connections again"
        case BackendState.UNCHECKED:
            return "open, and not checked: it gets connections whether it answers or not"
    share = state["share"] or 0.0
    return f"up{since}" + (f", in its slow start with {100 * share:.0f} % of its clients" if 0 < share < 1 else "")


def _foreseen(copy: ForeseenCopy) -> str:
    if (reason := copy["reason"]) is None:
        return f"copied to {copy['mirror']}"
    return f"not copied to {copy['mirror']}: {reason}: {_sentence(reason, *_REASONS)}"


# Connections


def _where(one: ExplainedConnection) -> str:
    to = one["service"] if one["backend"] is None else f"{one['service']}, with {one['backend']}"
    return f"to {to}: {one['state']}"


def _named(connections: Sequence[ExplainedConnection], where: str) -> str:
    """Return the first line about connections of a client that fare alike."""
    idle = sorted(one["idle_seconds"] for one in connections if one["idle_seconds"] is not None)
    ages = list(dict.fromkeys(age(seconds) for seconds in (*idle[:1], *idle[-1:])))
    last = f", last packet {' to '.join(ages)} ago" if ages else ""
    if len(connections) == 1:
        return f"{connections[0]['client']} {where}{last}"
    ports = [one["client"].rpartition(":")[2] for one in connections[:_MOST_PORTS]]
    more = f" and {len(connections) - len(ports)} more" if len(connections) > len(ports) else ""
    return f"{len(connections)} connections {where}{last}; from ports {', '.join(ports)}{more}"


def _connection(one: ExplainedConnection, refused: str | None) -> Iterator[str]:
    """Yield what is to be said about a connection, below the line that names it."""
    yield from (f"  {line}" for line in binding(one))
    yield from (f"  {copy_line(copy)}" for copy in one["copies"])
    for what, outcome in (("restart", one["restart"]), ("stop", one["stop"]), ("move to the other host", one["move"])):
        if outcome is not None:
            yield f"  {what}: {_outcome(outcome)}"
    if refused is not None:
        yield f"  reload: it would be refused: {refused}"
    elif not one["is_over"]:
        yield f"  reload of the file on disk: {'; '.join(f'it {loss}' for loss in one['reload']) or 'it loses nothing'}"


def binding(one: ExplainedConnection) -> Iterator[str]:
    """Yield what is to be said about a connection and its backend."""
    backend, derived = one["backend"], one["derived_backend"]
    if one["direct"]:
        yield "connected to the backend's own address: natmirror lets it pass, and copies nothing"
    elif one["is_over"]:
        return
    elif one["pinned"] and backend != derived:
        yield (
            f"pinned: the rules alone would give it {derived}. natmirror moves no open connection: it stays with"
            f" {backend} until it ends"
        )
    elif backend is not None:
        yield f"derived: the rules alone give it {backend}, on each host"
    notes = {
        "its packets pass the other host of the pair, as far as this one knows": one["guest"],
        "natmirror has reset it, because its backend or its client was taken away": one["reset_by_natmirror"],
        "picked up: its SYN did not pass here": one["picked_up"] and not one["is_over"],
        "its two ends have not agreed on their numbers here yet: it expires after ten seconds of silence": (
            one["unconfirmed"]
        ),
        "throttled: the client sees a smaller window because of a mirror": one["throttled"],
    }
    yield from (note for note, holds in notes.items() if holds)


def copy_line(copy: CopyEntry) -> str:
    """Return whether a mirror gets a connection's bytes, and why not."""
    waits = ", and the client waits for it now" if copy["client_waits"] else ""
    if copy["copied"]:
        middle = ", from the middle of the connection on" if copy["from_middle"] else ""
        return f"copied to {copy['mirror']}{middle}{waits}"
    reason = copy["reason"]
    if reason is None:
        return f"not copied to {copy['mirror']}: no session has begun, and the log has the reason"
    if reason != EndReason.RECONNECTING:
        return f"not copied to {copy['mirror']}: {reason}: {_sentence(reason, *_REASONS)}"
    before = "" if copy["ended_as"] is None else f" after {copy['ended_as']} ({_sentence(copy['ended_as'], EndReason)})"
    when = copy["begins_in_seconds"]
    begins = "once another connection has reached the mirror" if when is None else f"in {age(when)} at the earliest"
    begins = "with the client's next data after a pause" if when == 0 else begins
    return f"not copied to {copy['mirror']}{before}: it begins again {begins}"


def _outcome(outcome: OutcomeEntry) -> str:
    copies = [f"its copy to {name} {_COPY_FATES[fate]}" for name, fate in outcome["copies"].items()]
    return "; ".join((_sentence(outcome["connection"], ConnectionFate), *copies))


_COPY_FATES = {
    CopyFate.GOES_ON: "goes on",
    CopyFate.BEGINS_AGAIN: "ends, and begins again in the middle",
    CopyFate.ENDS: "ends",
}


# Words

_REASONS = (EndReason, SessionWait, CopyWait)


@cache
def _sentences(kind: type[StrEnum]) -> Mapping[str, str]:
    """Return the first paragraph of each word's sentence in the reference, without its full stop."""
    told = docstrings.sentences(kind)
    return {word: told[word.name].partition("\n\n")[0].rstrip(".") for word in kind}


def _sentence(word: str, *kinds: type[StrEnum]) -> str:
    """Return the sentence of a word of one of these enumerations, to stand behind a colon."""
    sentence = next(_sentences(kind)[word] for kind in kinds if word in _sentences(kind))
    return sentence[:1].lower() + sentence[1:]


def reason(word: str) -> str:
    """Return what a reason means, to stand behind a colon."""
    return _sentence(word, *_REASONS)
