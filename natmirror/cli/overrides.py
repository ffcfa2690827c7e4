"""The commands that set something over the rules, until another command takes it back."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import api_option, json_option
from natmirror.errors import HostError
from natmirror.rules.pool_keys import MAX_CONNECTIONS, MAX_WEIGHT

_POLL = 0.5  # seconds
_FOREVER = float("inf")
_MOST_SECONDS = 1e9
_IN_RULES = "rules"

_backend_argument = click.argument("backend", metavar="SERVICE/BACKEND")
_mirror_argument = click.argument("mirror", metavar="SERVICE/MIRROR")
_persist_option = click.option("--persist", is_flag=True, help="Have it hold over a restart, too.")


class _Seconds(click.ParamType["float"]):
    """A number of seconds, as the API takes it. ``hint`` is more for the error."""

    name = "seconds"

    def __init__(self, hint: str = "") -> None:
        self._hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            if 0 <= (seconds := float(value)) <= _MOST_SECONDS or value == _FOREVER:
                return seconds
        except ValueError:
            pass
        self.fail(f"expected a number of seconds, 0 or more, found {value}{self._hint}", param, ctx)


@click.command(epilog=epilog(exit_codes.DRAIN))
@_backend_argument
@click.option(
    "--deadline",
    type=_Seconds(),
    metavar="SECONDS",
    show_default="no deadline",
    help="Reset the connections that are left after this time.",
)
@click.option(
    "--wait",
    type=_Seconds(hint=": SERVICE/BACKEND comes before --wait"),
    is_flag=False,
    flag_value=_FOREVER,
    metavar="[SECONDS]",
    show_default="do not wait",
    help="Wait until the backend has no connections, at most this time, and print how many are left.",
)
@_persist_option
@api_option
@json_option
def drain(
    backend: str, deadline: float | None, wait: float | None, persist: bool, api_path: Path, as_json: bool
) -> None:
    """Give a backend no new connections.

    SERVICE and BACKEND are names in the rules. The backend's connections stay until they end or the deadline
    expires. The drain holds until natmirror undrain; a reload keeps it, and a restart with --persist. With shared
    state the command holds on both hosts of a pair; without, run it on both.
    """
    began_at = time.monotonic()
    answer = _send("drain", backend, api_path, deadline=deadline, persist=persist)
    if wait is None:
        _print(answer, as_json)
        return
    if not as_json:
        click.echo(answer["done"])
    try:
        left = _wait_until_empty(backend, api_path, began_at + wait, (lambda _: None) if as_json else _echo_left)
    except KeyboardInterrupt:
        click.echo(f"natmirror: the wait is over, and {backend} stays drained until natmirror undrain", err=True)
        raise
    took = time.monotonic() - began_at
    if as_json:
        click.echo(json.dumps({**answer, "connections_left": left, "waited_seconds": round(took, 1)}))
    elif left:
        click.echo(f"{_count(left)} left after {took:.0f} s: the time of --wait is over, and {backend} stays drained")
    else:
        click.echo(f"empty after {took:.0f} s")
    if left:
        click.get_current_context().exit(exit_codes.NOT_EMPTY)


def _wait_until_empty(backend: str, api_path: Path, until: float, show: Callable[[int], None]) -> int:
    """Wait until a drained backend has no connections, at most until a time; return how many are left. HostError where
    it is drained no more. Call ``show`` with the number that is left whenever it has changed."""
    shown = None
    while True:
        found = _find_backend(backend, api_path)
        left = 0 if found is None else int(found["flows"])
        if found is not None and found["state"] not in ("draining", "removed"):
            raise HostError(f"{backend} is drained no more: another command has ended that; connections left: {left}")
        if not left or time.monotonic() >= until:
            return left
        if left != shown:
            shown = left
            show(left)
        time.sleep(max(0.0, min(_POLL, until - time.monotonic())))


def _echo_left(left: int) -> None:
    click.echo(f"{left} left")


def _count(left: int) -> str:
    return f"{left} connection{'' if left == 1 else 's'}"


@click.command(epilog=epilog(exit_codes.COMMAND))
@_backend_argument
@api_option
@json_option
def undrain(backend: str, api_path: Path, as_json: bool) -> None:
    """Give a drained backend new connections again.

    SERVICE and BACKEND are names in the rules.
    """
    _print(_send("undrain", backend, api_path), as_json)


@click.command(epilog=epilog(exit_codes.COMMAND))
@_backend_argument
@click.argument("weight", metavar="[WEIGHT]", required=False)
@_persist_option
@api_option
@json_option
def weight(backend: str, weight: str | None, persist: bool, api_path: Path, as_json: bool) -> None:
    """Show a backend's weight, or give it another one.

    SERVICE and BACKEND are names in the rules. WEIGHT is a number from 1 to 1000, or the word rules for the weight
    that the rules give. It counts for new connections, beside the weights of the pool's other backends; open
    connections stay where they are. With balance: maglev, some clients' next connections go to other backends. With
    balance: priority, weights have no effect, and the command is refused. The weight holds until the next weight
    command; a reload keeps it, and a restart with --persist. With shared state the command holds on both hosts of a
    pair; without, run it on both.
    """
    if weight is None:
        _show_weight(backend, api_path, as_json)
        return
    if weight != _IN_RULES and not (weight.isascii() and weight.isdecimal() and 1 <= int(weight) <= MAX_WEIGHT):
        raise click.UsageError(
            f"expected a weight from 1 to {MAX_WEIGHT} or {_IN_RULES}, found {weight}; a backend that is to get no new"
            f" connections is drained: natmirror drain {backend}"
        )
    number = None if weight == _IN_RULES else int(weight)
    _print(_send("weight", backend, api_path, weight=number, persist=persist), as_json)


def _show_weight(backend: str, api_path: Path, as_json: bool) -> None:
    found = _find_backend(backend, api_path)
    if found is None:
        raise HostError(f"there is no backend {backend}: natmirror status lists them")
    if as_json:
        click.echo(json.dumps({name: found[name] for name in ("service", "name", "weight", "weight_in_rules")}))
        return
    now, before = found["weight"], found["weight_in_rules"]
    if now is None:
        raise HostError(f"{backend} has no weight: it is {found['state']}")
    click.echo(f"{backend} has weight {now}" + ("" if now == before else f", by a command; the rules give it {before}"))


@click.group()
def backend() -> None:
    """Add a backend to a pool, or remove one."""


@backend.command(epilog=epilog(exit_codes.COMMAND))
@_backend_argument
@click.argument("address", metavar="ADDRESS[:PORT]")
@click.option("--weight", type=click.IntRange(1, MAX_WEIGHT), metavar="WEIGHT", help="Its weight.", show_default="1")
@click.option(
    "--max-connections",
    type=click.IntRange(1, MAX_CONNECTIONS),
    metavar="COUNT",
    help="Limit on its connections.",
    show_default="no limit",
)
@_persist_option
@api_option
@json_option
def add(
    backend: str,
    address: str,
    weight: int | None,
    max_connections: int | None,
    persist: bool,
    api_path: Path,
    as_json: bool,
) -> None:
    """Add a backend to a pool, without a change of the rules file.

    SERVICE is a name in the rules, BACKEND is the new backend's name. Without PORT it has the service's. The backend
    passes the checks that a backend in a rules file passes, and begins with a slow start if its pool has one. It
    stays until natmirror backend remove: a reload keeps it, unless the file then has a backend of its name or
    address. A restart keeps it with --persist alone. With shared state the command holds on both hosts of a pair;
    without, run it on both.
    """
    more: dict[str, Any] = {"weight": weight, "max_connections": max_connections}
    given = {key: value for key, value in more.items() if value is not None}
    _print(_send("add", backend, api_path, persist=persist, address=address, **given), as_json)


@backend.command(epilog=epilog(exit_codes.COMMAND))
@_backend_argument
@_persist_option
@api_option
@json_option
def remove(backend: str, persist: bool, api_path: Path, as_json: bool) -> None:
    """Remove a backend from its pool, without a change of the rules file.

    SERVICE and BACKEND are names in the rules. The backend gets no new connections, and keeps those that it has
    until they end; for a deadline, drain it with --deadline before. It stays out until natmirror backend add: a
    reload keeps it out, a restart with --persist alone. The last backend of a pool cannot be removed. With shared
    state the command holds on both hosts of a pair; without, run it on both.
    """
    _print(_send("remove", backend, api_path, persist=persist), as_json)


@click.group()
def mirror() -> None:
    """Pause a mirror, or resume it."""


@mirror.command(epilog=epilog(exit_codes.COMMAND))
@_mirror_argument
@_persist_option
@api_option
@json_option
def pause(mirror: str, persist: bool, api_path: Path, as_json: bool) -> None:
    """End the copies to a mirror, and begin no new ones.

    SERVICE and MIRROR are names in the rules. What the mirror misses counts as lost, for the reason mirror-paused.
    The pause holds until natmirror mirror resume; a reload keeps it, and a restart with --persist. With shared
    state the command holds on both hosts of a pair; without, run it on both.
    """
    _print(_send("pause", mirror, api_path, persist=persist), as_json)


@mirror.command(epilog=epilog(exit_codes.COMMAND))
@_mirror_argument
@api_option
@json_option
def resume(mirror: str, api_path: Path, as_json: bool) -> None:
    """Give a paused mirror copies again.

    SERVICE and MIRROR are names in the rules. New connections are copied again; open ones, too, if the mirror's
    reconnect in the rules lets their copies begin in the middle.
    """
    _print(_send("resume", mirror, api_path), as_json)


def _find_backend(backend: str, api_path: Path) -> Any:
    """Return a backend's entry in the status, or None if it has none."""
    from natmirror.api.client import ask

    service, name = _parts(backend, "BACKEND")
    entries = ask("status", api_path)["backends"]
    return next((one for one in entries if (one["service"], one["name"]) == (service, name)), None)


def _parts(subject: str, what: str) -> tuple[str, str]:
    service, slash, name = subject.partition("/")
    if not slash:
        raise click.UsageError(f"expected SERVICE/{what}, found {subject}")
    return service, name


def _send(command: str, subject: str, api_path: Path, *, persist: bool = False, **arguments: Any) -> Any:
    from natmirror.api.client import send_command

    what = "mirror" if command in ("pause", "resume") else "backend"
    service, name = _parts(subject, what.upper())
    if persist:
        arguments["persist"] = True
    return send_command(command, {"service": service, what: name, **arguments}, api_path)


def _print(answer: Any, as_json: bool) -> None:
    click.echo(json.dumps(answer) if as_json else answer["done"])
