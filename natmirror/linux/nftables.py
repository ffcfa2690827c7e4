"""The kernel's part in NAT: an nftables table that translates packets by the mark that their verdict has set.

A verdict with a mark has 40 bytes. A verdict with a rewritten packet has up to 64 KiB, which the kernel copies twice
and linearises; with a mark, a checksum can also stay with the hardware. So large packets get a mark. It stands for a
service and one of its backends. The next hook translates the packet and clears the mark. A packet with a mark that the
table does not know is dropped: its sender sends it again.

The destination is translated right after raw PREROUTING, the source right after mangle FORWARD: these are the hooks
where packets get their verdicts (nft(8), "Netfilter priorities").
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from natmirror.errors import HostError
from natmirror.linux import commands
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.rules import Rules

ServiceBackend = tuple[Endpoint, Endpoint]
"""The endpoints of a service and of one of its backends."""

MARKS, MARKS_MASK = 0x6E6D0000, 0xFFFF0000
"""The range of our marks. No packet has such a mark after it has passed the table."""

_TABLE = "ip natmirror"
_ELEMENTS = re.compile(r"(?<=elements = {)([^}]*)(?=})")
_SHOWN = 80  # characters of a line that differs
_MAX_MARKS = ~MARKS_MASK & 0xFFFFFFFF
_CHAINS = (
    ("backend", "prerouting", -299, "daddr", "dport"),
    ("service", "forward", -149, "saddr", "sport"),
)


class Translation:
    """Our nftables table in this network namespace."""

    def __init__(self) -> None:
        self._marks: dict[ServiceBackend, int] = {}
        self._wanted: list[str] | None = None

    def marks(self, rules: Rules) -> dict[ServiceBackend, int]:
        """Return the marks of those services and backends in ``rules`` that the table knows."""
        return {pair: self._marks[pair] for pair in _pairs(rules) if pair in self._marks}

    def install(self, rules: Rules) -> None:
        """Install the table for these rules; it replaces one that an earlier run has left. HostError where nft refuses:
        then nothing has changed. Pairs keep their marks, because workers may be setting them."""
        marks = self._with(rules, self.marks(rules))
        _feed(f"table {_TABLE} {{}}\ndelete table {_TABLE}\n{script(marks)}")
        self._remember(marks)

    def extend(self, rules: Rules) -> None:
        """After install(), add the services and backends of these rules. HostError where nft refuses."""
        marks = self._with(rules, self._marks)
        if added := {pair: mark for pair, mark in marks.items() if pair not in self._marks}:
            _feed("".join(f"add element {_TABLE} {name} {{ {value} }}\n" for name, value in _elements(added)))
            self._remember(marks)

    def reduce(self, rules: Rules) -> None:
        """Remove all services and backends that these rules lack, once no worker sets their marks. HostError where nft
        refuses."""
        kept = self.marks(rules)
        if gone := {pair: mark for pair, mark in self._marks.items() if pair not in kept}:
            keys = ", ".join(map(hex, gone.values()))
            _feed("".join(f"delete element {_TABLE} {name} {{ {keys} }}\n" for name, _ in _elements(gone)))
            self._remember(kept)

    def differences(self) -> list[str]:
        """Return how the table differs from what was installed last, each in a few words; empty if it does not.
        HostError where that is unknown."""
        wanted, found = self._wanted, _lines(_list())
        if wanted is None:
            return ["it was changed while it was installed"]
        if not found:
            return ["the table is missing"]
        if found == wanted:
            return []
        lacks, has = Counter(wanted) - Counter(found), Counter(found) - Counter(wanted)
        told = [f"it lacks: {line[:_SHOWN]}" for line in lacks] + [f"it has, besides: {line[:_SHOWN]}" for line in has]
        return told or ["its lines are in another order"]

    def _remember(self, marks: dict[ServiceBackend, int]) -> None:
        """Keep what nft shows of the table, to which these marks have just been given, if no other program has changed
        it meanwhile."""
        self._marks, self._wanted = marks, None
        with suppress(HostError):
            lines = _lines(_list())
            words = set(" ".join(lines).replace(",", " ").split())
            chains = {f"@{end}-address" for end, *_ in _CHAINS}
            if words.issuperset(chains) and words.issuperset(map(hex, marks.values())):
                self._wanted = lines

    def _with(self, rules: Rules, known: Mapping[ServiceBackend, int]) -> dict[ServiceBackend, int]:
        """Return ``known``, and marks for the other pairs of these rules, as long as marks are left."""
        marks, taken = dict(known), set(known.values())
        free = (mark for mark in range(MARKS + 1, MARKS + _MAX_MARKS + 1) if mark not in taken)
        for pair in _pairs(rules):
            if pair not in marks and (mark := next(free, None)) is not None:
                marks[pair] = mark
        return marks


def remove() -> list[str]:
    """Remove our table; return its name if there was one. Without the program nft there is none."""
    if shutil.which("nft") is None or _list() is None:
        return []
    _feed(f"delete table {_TABLE}\n")
    return [f"nft: table {_TABLE}"]


def plan(rules: Rules) -> str:
    """Return the input of nft at a start on a host that does not have our table."""
    return script(Translation()._with(rules, {}))


def script(marks: Mapping[ServiceBackend, int]) -> str:
    """Return the table with these marks, as nft's input."""
    values = dict(_elements(marks))
    lines = [f"table {_TABLE} {{"]
    for end, hook, priority, address, port in _CHAINS:
        for what, kind in (("address", "ipv4_addr"), ("port", "inet_service")):
            elements = f" elements = {{ {values[f'{end}-{what}']} }};" if marks else ""
            lines.append(f"  map {end}-{what} {{ type mark : {kind};{elements} }}")
        lines += [
            f"  chain to-{end} {{",
            f"    type filter hook {hook} priority {priority}; policy accept;",
            f"    meta mark & {MARKS_MASK:#x} != {MARKS:#x} accept",
            f"    ip {address} set meta mark map @{end}-address tcp {port} set meta mark map @{end}-port"
            " meta mark set 0 accept",
            "    drop",
            "  }",
        ]
    return "\n".join([*lines, "}", ""])


def test(rules: Rules) -> None:
    """Have nft and the kernel check the table of these rules, and change nothing. HostError where they refuse it."""
    _run("-c", "-f", "-", text=plan(rules))


def is_left_behind() -> bool:
    """Return whether the table is there. HostError where that is unknown."""
    return _list() is not None


def _pairs(rules: Rules) -> Iterator[ServiceBackend]:
    for service in rules.services:
        for backend in service.pool.members if service.pool else ():
            yield endpoint_of(service), endpoint_of(backend)


def _elements(marks: Mapping[ServiceBackend, int]) -> Iterator[tuple[str, str]]:
    """Yield the name and the elements of each of the table's maps."""
    for place, end in enumerate(("service", "backend")):
        ends = {mark: show(pair[place]).split(":") for pair, mark in marks.items()}
        yield f"{end}-address", _listed((mark, address) for mark, (address, _) in ends.items())
        yield f"{end}-port", _listed((mark, port) for mark, (_, port) in ends.items())


def _listed(elements: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f"{mark:#x} : {value}" for mark, value in elements)


def _list() -> str | None:
    """Return the table as nft shows it; None where there is none."""
    try:
        return _run("list", "table", *_TABLE.split())
    except HostError as error:
        if "No such file" in str(error):
            return None
        raise


def _lines(listed: str | None) -> list[str]:
    """Return what nft shows of the table, line by line; it shows the elements of a map in any order."""
    in_order = _ELEMENTS.sub(lambda match: f" {', '.join(sorted(map(str.strip, match[1].split(','))))} ", listed or "")
    return [" ".join(line.split()) for line in in_order.splitlines() if line.strip()]


def _feed(text: str) -> None:
    _run("-f", "-", text=text)


def _run(*arguments: str, text: str | None = None) -> str:
    timeout = commands.READ_TIMEOUT if text is None else commands.TIMEOUT
    return commands.run(["nft", *arguments], text, package="nftables", timeout=timeout)
