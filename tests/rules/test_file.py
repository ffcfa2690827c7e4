"""Rules files: the rules that they give, and the errors of bad ones."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.errors import RulesError
from natmirror.fastpath import constants
from natmirror.rules import Balance, CheckKind, Health, PerClient, Timeouts, load_rules, parse_rules
from natmirror.rules.keys import CLIENT_SHARE
from natmirror.rules.text import describe
from natmirror.rules.units import Rate

DIRECTORY = Path(__file__).parents[2] / "rules"
GOOD = """\
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      balance: maglev
      backends:
        - {name: c1, address: 10.20.0.11, port: 6633, weight: 3}
        - {name: c2, address: 10.20.0.12}
    mirrors:
      - {name: master, address: 10.20.0.13}
"""


def test_a_file_gives_the_rules_with_their_defaults() -> None:
    rules = parse_rules(GOOD)
    assert rules.switches == (IPv4Network("10.10.0.0/24"),)
    [service] = rules.services
    assert (service.name, service.address, service.port) == ("openflow", IPv4Address("10.10.0.100"), 6653)
    assert service.pool is not None
    assert (service.pool.balance, service.pool.hash) == ("maglev", "address")
    assert [(backend.port, backend.weight) for backend in service.pool.backends] == [(6633, 3), (6653, 1)]
    [mirror] = service.mirrors
    assert (mirror.port, mirror.buffer, mirror.direct) == (6653, 16 << 20, False)
    assert rules.warnings == ()


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_of_the_repository_load_and_are_described(path: Path) -> None:
    rules = load_rules(path)
    assert rules.services
    for service in rules.services:
        assert f"{service.address}:{service.port}" in describe(rules)


# Each is GOOD with one change, and the error that it gives.
MISTAKES = [
    ("port: 6653", "port: 70000", "5: services[0].port: expected 1..65535, found 70000"),
    ("port: 6653", "port: 0", "5: services[0].port: expected 1..65535, found 0"),
    ("port: 6653", 'port: "6653"', "5: services[0].port: expected 1..65535, found 6653 in quotes"),
    ("port: 6653", "port: 06653", "5: services[0].port: expected 1..65535, found 06653 with a leading zero"),
    ("port: 6653", "port: true", "5: services[0].port: expected 1..65535, found true"),
    ("port: 6653", "port: 8080:43", "5: services[0].port: expected 1..65535, found 8080:43"),
    ("port: 6653", "port:", "5: services[0].port: expected 1..65535, found nothing"),
    ("port: 6653", "port: [1]", "5: services[0].port: expected 1..65535, found a list"),
    (
        "port: 6653\n",
        "prt: 6653\n",
        "5: services[0].prt: expected one of the keys name, address, port, pool, mirrors,"
        " release, per-client, found prt (did you mean port?)",
    ),
    ("port: 6653\n", "port: 6653\n    port: 6653\n", "6: services[0].port: expected each key once, found port twice"),
    ("    port: 6653\n", "", "3: services[0]: expected the key port, found only name, address, pool, mirrors"),
    (
        "address: 10.10.0.100",
        "address: 10.10.0.300",
        "4: services[0].address: expected an IPv4 address, found 10.10.0.300",
    ),
    ("address: 10.10.0.100", "address: fd00::1", "4: services[0].address: expected an IPv4 address, found fd00::1"),
    (
        "10.20.0.11",
        "10.10.0.11",
        "9: services[0].pool.backends[0].address: expected an address outside the switches'"
        " network 10.10.0.0/24, found 10.10.0.11",
    ),
    (
        "10.20.0.13",
        "10.10.0.13",
        "12: services[0].mirrors[0].address: expected an address outside the switches' network"
        " 10.10.0.0/24, found 10.10.0.13",
    ),
    ("[10.10.0.0/24]", "[]", "1: switches: expected a list of networks, found an empty list"),
    ("[10.10.0.0/24]", "10.10.0.0/24", "1: switches: expected a list of networks, found 10.10.0.0/24"),
    (
        "[10.10.0.0/24]",
        "[10.10.0.1/24]",
        "1: switches[0]: expected an IPv4 network such as 10.10.0.0/24, found"
        " 10.10.0.1/24 (10.10.0.1/24 has host bits set)",
    ),
    (
        "[10.10.0.0/24]",
        "[10.10.0.0/24, 10.10.0.0/16]",
        "1: switches[1]: expected networks that do not overlap, found 10.10.0.0/16 and 10.10.0.0/24",
    ),
    (
        "balance: maglev",
        "balance: magic",
        f"7: services[0].pool.balance: expected {' or '.join(Balance)}, found magic",
    ),
    (
        "balance: maglev",
        "balance: round-robin\n      hash: address",
        "8: services[0].pool.hash: expected no hash with balance round-robin, found one",
    ),
    (
        "balance: maglev",
        "balance: maglev\n      when-none: cry",
        "8: services[0].pool.when-none: expected drop or refuse, found cry",
    ),
    (
        "balance: maglev",
        "balance: maglev\n      sorry: {name: c1, address: 10.20.0.19}",
        "8: services[0].pool.sorry: expected a unique name, found c1 again",
    ),
    (
        "weight: 3",
        "max-connections: 0",
        "9: services[0].pool.backends[0].max-connections: expected 1..16777216, found 0",
    ),
    (
        "balance: maglev",
        "balance: priority",
        "9: services[0].pool.backends[0].weight: expected no weight with balance priority, found one",
    ),
    ("weight: 3", "weight: 0", "9: services[0].pool.backends[0].weight: expected 1..1000, found 0"),
    ("name: c2", "name: c1", "10: services[0].pool.backends[1]: expected a unique name, found c1 again"),
    (
        "10.20.0.12}",
        "10.20.0.11, port: 6633}",
        "10: services[0].pool.backends[1]: expected a unique address and port, found 10.20.0.11:6633 of c1 again",
    ),
    (
        "10.20.0.13}",
        "10.20.0.12, protocol: openflow}",
        "12: services[0].mirrors[0]: expected a mirror with protocol: openflow that is not a backend, found"
        " 10.20.0.12:6653 of openflow/c2",
    ),
    (
        "10.20.0.13}",
        "10.20.0.13, protocol: openflow, when-behind: throttle}",
        "12: services[0].mirrors[0].when-behind: expected when-behind: drop with protocol: openflow, found"
        " throttle: a session leaves out whole messages instead",
    ),
    (
        "switches:",
        "limit-per-client: 50\nswitches:",
        "1: limit-per-client: expected 100..1000000, found 50",
    ),
    (
        "switches:",
        "known-switches: switches.json\nswitches:",
        "1: known-switches: expected an absolute path of a file, found switches.json",
    ),
    (
        "name: c1",
        "name: c 1",
        "9: services[0].pool.backends[0].name: expected a name of letters, digits, dots, dashes and"
        " underscores, found c 1",
    ),
    (
        "10.20.0.13}",
        "10.20.0.13, buffer: 16MB}",
        "12: services[0].mirrors[0].buffer: expected a size from 64KiB to 1GiB, such as 16MiB, found 16MB",
    ),
    (
        "10.20.0.13}",
        "10.20.0.13, buffer: 1KiB}",
        "12: services[0].mirrors[0].buffer: expected a size from 64KiB to 1GiB, such as 16MiB, found 1KiB",
    ),
    *(
        ("10.20.0.13}", f"10.20.0.13, {key}: {found}}}", f"12: services[0].mirrors[0].{key}: expected {message}")
        for key, found, message in [
            ("when-behind", "wait", "drop or throttle, found wait"),
            ("protocol", "of", "raw or openflow, found of"),
            (
                *("reconnect", "next-message"),
                "never or next-segment without protocol: openflow, found next-message: a raw mirror gets bytes",
            ),
            (
                *("reconnect", "next-segment, protocol: openflow"),
                "never or next-message with protocol: openflow, found next-segment: a session needs whole messages",
            ),
            (
                *("reconnect", "next-segment, when-behind: throttle"),
                "reconnect: never with when-behind: throttle, found next-segment: a client is throttled only from its"
                " handshake on",
            ),
            ("unsolicited", "pass", "no unsolicited without protocol: openflow, found one"),
            ("statistics", "refuse", "no statistics without protocol: openflow, found one"),
            ("verdict", "off", "no verdict without protocol: openflow, found one"),
            ("twin", "other", "no twin without protocol: openflow, found one"),
            ("warm-up", "30s", "no warm-up without protocol: openflow, found one"),
            ("throttle-limit", "2s", "no throttle-limit without when-behind: throttle, found one"),
            ("sample", "0.5", "a percentage from 0% to 100%, found 0.5"),
            ("sample", "101%", "a percentage from 0% to 100%, found 101%"),
            ("only", "10.10.0.0/24", "a list of networks, found 10.10.0.0/24"),
            ("source", "server", "an IPv4 address, found server"),
            ("source", "10.10.0.7", "an address outside the switches' network 10.10.0.0/24, found 10.10.0.7"),
            ("linger", "5", "a duration from 1ms to 30d, such as 5s, found 5"),
            ("linger", "31d", "a duration from 1ms to 30d, such as 5s, found 31d"),
            ("connect-timeout", "0s", "a duration from 1ms to 30d, such as 5s, found 0s"),
            ("idle-timeout", "never", "a duration from 1ms to 30d, such as 5s, found never"),
        ]
    ),
    *(
        ("balance: maglev", f"balance: maglev\n      health: {found}", f"8: services[0].pool.health{message}")
        for found, message in [
            ("tcp", ": expected a mapping with check, interval, timeout, rise, fall, command, found tcp"),
            ("{}", ": expected the key check, found none"),
            ("{interval: 1s}", ": expected the key check, found only interval"),
            ("{check: http}", ".check: expected tcp or openflow or exec, found http"),
            ("{check: tcp, interval: 1}", ".interval: expected a duration from 100ms to 30d, such as 5s, found 1"),
            (
                "{check: tcp, interval: 99ms}",
                ".interval: expected a duration from 100ms to 30d, such as 5s, found 99ms",
            ),
            ("{check: tcp, timeout: 0s}", ".timeout: expected a duration from 1ms to 30d, such as 5s, found 0s"),
            ("{check: tcp, timeout: 2s}", ".timeout: expected a timeout of at most the interval, 1s, found 2s"),
            ("{check: tcp, interval: 200ms}", ": expected a timeout of at most the interval, 200ms, found 500ms"),
            ("{check: tcp, rise: 0}", ".rise: expected 1..100, found 0"),
            ("{check: tcp, fall: 101}", ".fall: expected 1..100, found 101"),
            ("{check: tcp, command: [x]}", ".command: expected no command with check: tcp, found one"),
            ("{check: exec}", ": expected a command with check: exec, found none"),
            ("{check: exec, command: x}", ".command: expected a list of words, the program first, found x"),
            (
                "{check: exec, command: []}",
                ".command: expected a list of words, the program first, found an empty list",
            ),
            ("{check: exec, command: [[x]]}", ".command[0]: expected a word, found a list"),
            (
                "{check: exec, command: ['']}",
                ".command: expected a program and its arguments, found an empty name or a NUL byte",
            ),
            (
                "{check: tcp, raise: 1}",
                ".raise: expected one of the keys check, interval, timeout, rise, fall, command, found raise (did you"
                " mean rise?)",
            ),
        ]
    ),
    (
        "10.20.0.13}",
        "10.20.0.13, only: [10.11.0.0/24]}",
        "12: services[0].mirrors[0].only[0]: expected a network inside one of the switches' networks,"
        " found 10.11.0.0/24",
    ),
    (
        "10.20.0.13}",
        "10.20.0.13, source: 10.20.0.1, direct: true}",
        "12: services[0].mirrors[0].direct: expected no direct with a source of this host, found one: the mirror's"
        " packets to clients pass anyway",
    ),
    (
        "services:",
        "mirror-memory: 1GB\nservices:",
        "2: mirror-memory: expected a size from 1MiB to 1024GiB, such as 16MiB, found 1GB",
    ),
    (
        "services:",
        "max-flows: 1000\nservices:",
        "2: max-flows: expected 1024..16777216, found 1000",
    ),
    (
        "services:",
        "timeouts: {established: 2h}\nservices:",
        "2: timeouts.established: expected a duration from 124m (RFC 5382 REQ-5) to 30d, such as 124m, found 2h",
    ),
    (
        "services:",
        "timeouts: {closing: 239s}\nservices:",
        "2: timeouts.closing: expected a duration from 4m (RFC 5382 REQ-5) to 30d, such as 4m, found 239s",
    ),
    (
        "services:",
        "timeouts: {opening: 29s}\nservices:",
        "2: timeouts.opening: expected a duration from 30s to 30d, such as 30s, found 29s",
    ),
    ("services:", "threads: 3\nservices:", "2: threads: expected auto, or a power of two up to 16, found 3"),
    ("services:", "threads: 32\nservices:", "2: threads: expected auto, or a power of two up to 16, found 32"),
    ("10.20.0.13}", "10.20.0.13, direct: on}", "12: services[0].mirrors[0].direct: expected true or false, found on"),
    (
        "services:",
        "other: 1\nservices:",
        "2: other: expected one of the keys switches, services, mirror-memory, max-flows, timeouts, threads,"
        " limit-per-client, known-switches, metrics, api, events, ha, found other",
    ),
    (
        "services:",
        "queues: cores\nservices:",
        "2: queues: expected one of the keys switches, services, mirror-memory, max-flows, timeouts, threads,"
        " limit-per-client, known-switches, metrics, api, events, ha, found queues",
    ),
]

MISTAKES += [
    ("    pool:\n", f"    per-client: {{{keys}}}\n    pool:\n", f"6: services[0].per-client{message}")
    for keys, message in (
        ("max-connections: 0", ".max-connections: expected 1..16777216, found 0"),
        ("max-connections: -1", ".max-connections: expected 1..16777216, found -1"),
        ("max-connections: 20/s", ".max-connections: expected 1..16777216, found 20/s"),
        *(
            (
                f"new-connections: {wrong}",
                ".new-connections: expected a rate of 1 to 1000000 in each second, minute or hour, such as 20/s, 600/m"
                f" or 100/h, found {wrong}",
            )
            for wrong in ("0/s", "-1/s", "20", "20/d", "20/ms", "2.5/s", "1000001/s", "20 per second")
        ),
        ("", ": expected max-connections or new-connections or both, found neither"),
        (
            "new: 1/s",
            ".new: expected one of the keys max-connections, new-connections, found new",
        ),
    )
]


@pytest.mark.parametrize(
    ("old", "new", "message"), MISTAKES, ids=[message.split(" ", 1)[1][:50] for *_, message in MISTAKES]
)
def test_a_mistake_is_one_line_with_its_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RulesError) as error:
        parse_rules(GOOD.replace(old, new, 1), "lb.yaml")
    assert str(error.value) == f"lb.yaml:{message}"


SEVERAL = """
switches: [10.10.0.0/24]
thread: 2
services:
  - name: one
    address: 10.10.0.100
    port: 70000
    pool:
      backends:
        - {name: c1, address: 10.20.0.11, wait: 2}
        - {name: c 2, address: 10.20.0.12}
    mirrors:
      - {name: m1, address: 10.20.0.300}
      - {name: m2, address: 10.20.0.14, linger: never, sample: 200%}
  - name: two
    address: 10.10.0.101
    port: 80
    pool:
      balance: priority
      hash: address
      backends:
        - {name: c1, address: 10.10.0.11}
        - {name: c2, address: 10.20.0.12, weight: 2}
      health: {check: tcp, timeout: 9s, interval: 2s}
    mirrors:
      - {name: m1, address: 10.20.0.13, only: [10.30.0.0/24], throttle-limit: 1s}
      - {name: m1, address: 10.20.0.14}
  - name: two
    address: 10.10.0.102
    port: 80
    mirrors: [{name: m1, address: 10.20.0.13}]
"""


def test_errors_that_do_not_follow_from_each_other_come_together() -> None:
    with pytest.raises(RulesError) as error:
        parse_rules(SEVERAL, "lb.yaml")
    found = [line.removeprefix("lb.yaml:").partition(": expected")[0] for line in error.value.lines]
    assert found == [
        "3: thread",
        "7: services[0].port",
        "10: services[0].pool.backends[0].wait",
        "11: services[0].pool.backends[1].name",
        "13: services[0].mirrors[0].address",
        "14: services[0].mirrors[1].sample",
        "14: services[0].mirrors[1].linger",
        "20: services[1].pool.hash",
        "22: services[1].pool.backends[0].address",
        "23: services[1].pool.backends[1].weight",
        "24: services[1].pool.health.timeout",
        "26: services[1].mirrors[0].only[0]",
        "26: services[1].mirrors[0].throttle-limit",
    ]
    assert str(error.value) == f"{error.value.lines[0]} (and 12 more: natmirror --rules FILE --check has all)"


def test_errors_that_are_mended_leave_exactly_the_others() -> None:
    text = SEVERAL.replace("    port: 70000", "    port: 1")
    with pytest.raises(RulesError) as error:
        parse_rules(text.replace("name: c 2", "name: c2"), "lb.yaml")
    assert len(error.value.lines) == 11


def test_errors_are_in_the_order_of_their_lines_and_so_many_that_they_can_be_read() -> None:
    mirrors = "\n".join(f"      - {{name: m{number}, address: nowhere}}" for number in range(80))
    text = "services:\n  - name: one\n    address: 10.10.0.100\n    port: 1\n    mirrors:\n" + mirrors
    with pytest.raises(RulesError) as error:
        parse_rules(text, "lb.yaml")
    lines = [int(line.split(":")[1]) for line in error.value.lines[:-1]]
    assert lines == [1, *range(6, 55)]
    assert error.value.lines[-1] == "and 31 more errors"


def test_all_keys_of_a_raw_mirror() -> None:
    settings = (
        "when-behind: throttle, throttle-limit: 500ms, sample: 12.5%, only: [10.10.0.0/25], source: 10.20.0.1,"
        " linger: 1m, connect-timeout: 3s, stall-timeout: 10s, idle-timeout: 2h, buffer: 1MiB"
    )
    rules = parse_rules(GOOD.replace("10.20.0.13}", f"10.20.0.13, {settings}}}"))
    [mirror] = rules.services[0].mirrors
    assert mirror.throttles
    assert (mirror.throttle_limit, mirror.sample, mirror.only) == (0.5, 0.125, (IPv4Network("10.10.0.0/25"),))
    assert (mirror.source, mirror.linger, mirror.connect_timeout) == (IPv4Address("10.20.0.1"), 60, 3)
    assert (mirror.stall_timeout, mirror.idle_timeout, mirror.buffer) == (10, 7200, 1 << 20)
    text = describe(rules)
    assert (
        "  mirror  master 10.20.0.13:6653 buffer 1MiB when-behind throttle throttle-limit 500ms sample 12.5%"
        " only 10.10.0.0/25\n"
        "  mirror  master source 10.20.0.1 linger 1m connect-timeout 3s stall-timeout 10s idle-timeout 2h\n"
    ) in text


def test_all_keys_of_a_master() -> None:
    settings = "protocol: openflow, reconnect: next-message, unsolicited: pass, statistics: refuse"
    text = GOOD.replace("10.20.0.13}", f"10.20.0.13, {settings}}}") + "known-switches: /var/lib/natmirror/known.json\n"
    rules = parse_rules(text)
    [mirror] = rules.services[0].sessions
    assert rules.services[0].copies == ()
    assert (mirror.reconnect, mirror.unsolicited, mirror.statistics) == ("next-message", "pass", "refuse")
    assert str(rules.known_switches) == "/var/lib/natmirror/known.json"
    assert "protocol openflow reconnect next-message unsolicited pass statistics refuse" in describe(rules)
    assert (mirror.verdict, mirror.is_compared, mirror.twin, mirror.warm_up) == ("off", False, None, 30.0)
    assert "  mirror  master verdict off" in describe(rules)
    assert "known-switches: /var/lib/natmirror/known.json" in describe(rules)


@pytest.mark.parametrize(
    ("text", "health", "shown"),
    [
        ("{check: tcp}", Health(CheckKind.TCP), "tcp interval 1s timeout 500ms rise 2 fall 3"),
        (
            "{check: openflow, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}",
            Health(CheckKind.OPENFLOW, 0.2, 0.2, 1, 2),
            "openflow interval 200ms timeout 200ms rise 1 fall 2",
        ),
        (
            "{check: exec, interval: 1m, timeout: 5s, command: [/bin/check, -p, a b]}",
            Health(CheckKind.EXEC, 60.0, 5.0, command=("/bin/check", "-p", "a b")),
            "exec interval 1m timeout 5s rise 2 fall 3 command /bin/check -p 'a b'",
        ),
    ],
)
def test_all_keys_of_health(text: str, health: Health, shown: str) -> None:
    rules = parse_rules(GOOD.replace("balance: maglev", f"balance: maglev\n      health: {text}"))
    assert rules.services[0].pool is not None
    assert rules.services[0].pool.health == health
    assert f"\n  health  {shown}\n" in describe(rules)


def test_backends_are_not_checked_by_default() -> None:
    rules = parse_rules(GOOD)
    assert rules.services[0].pool is not None
    assert rules.services[0].pool.health is None
    assert "\n  health  not checked\n" in describe(rules)


@pytest.mark.parametrize(
    ("sample", "shown"), [("100%", "100%"), ("0%", "0%"), ("10%", "10%"), ("0.5%", "0.5%"), ("1.250%", "1.25%")]
)
def test_a_sample_is_shown_as_it_was_written(sample: str, shown: str) -> None:
    text = describe(parse_rules(GOOD.replace("10.20.0.13}", f"10.20.0.13, sample: {sample}}}")))
    assert f" sample {shown}\n" in text


def test_the_default_timeouts_are_those_of_the_rfcs() -> None:
    rules = parse_rules(GOOD)
    assert rules.timeouts == Timeouts(opening=240.0, established=7440.0, closing=240.0, closed=10.0)
    assert "timeouts: opening 4m established 124m closing 4m closed 10s" in describe(rules)
    assert parse_rules("timeouts: {established: 4h}\n" + GOOD).timeouts == replace(rules.timeouts, established=14_400)
    assert parse_rules("timeouts: {opening: 30s, closed: 4m}\n" + GOOD).timeouts.closed == 240.0


@pytest.mark.parametrize(
    ("written", "limits", "shown"),
    [
        ("max-connections: 100", PerClient(100), "max-connections 100"),
        ("new-connections: 20/s", PerClient(None, Rate(20, "s")), "new-connections 20/s"),
        (
            "max-connections: 5, new-connections: 600 / m",
            PerClient(5, Rate(600, "m")),
            "max-connections 5 new-connections 600/m",
        ),
        ("new-connections: 7/h", PerClient(None, Rate(7, "h")), "new-connections 7/h"),
    ],
)
def test_limits_per_client(written: str, limits: PerClient, shown: str) -> None:
    rules = parse_rules(GOOD.replace("    pool:\n", f"    per-client: {{{written}}}\n    pool:\n", 1))
    assert rules.services[0].per_client == limits
    assert f"\n  per-client {shown}\n" in describe(rules) + "\n"


def test_only_a_service_with_a_pool_can_have_limits_per_client() -> None:
    text = "switches: [10.10.0.0/24]\nservices:\n  - name: a\n    address: 10.10.0.100\n    port: 1\n"
    with pytest.raises(RulesError, match=r"6: services\[0\]\.per-client: expected a pool with per-client, found none"):
        parse_rules(
            text + "    per-client: {max-connections: 1}\n    mirrors:\n      - {name: m, address: 10.20.0.13}\n"
        )


def test_only_a_service_with_a_pool_can_throttle_its_clients() -> None:
    text = "switches: [10.10.0.0/24]\nservices:\n  - name: a\n    address: 10.10.0.100\n    port: 1\n    mirrors:\n"
    with pytest.raises(
        RulesError, match=r"7: services\[0\]\.mirrors\[0\]: expected a pool with when-behind: throttle, found none"
    ):
        parse_rules(text + "      - {name: m, address: 10.20.0.13, when-behind: throttle}")


def test_an_empty_pool_and_a_service_without_pool_and_mirrors_are_refused() -> None:
    head = "switches: [10.10.0.0/24]\nservices:\n  - {name: a, address: 10.10.0.100, port: 1"
    with pytest.raises(
        RulesError, match=r"3: services\[0\]\.pool\.backends: expected a list of backends, found an empty"
    ):
        parse_rules(head + ", pool: {backends: []}}")
    with pytest.raises(RulesError, match=r"3: services\[0\]\.pool: expected the key backends, found none"):
        parse_rules(head + ", pool: {}}")
    with pytest.raises(RulesError, match=r"3: services\[0\]: expected a pool or mirrors or both, found neither"):
        parse_rules(head + "}")


def second(name: str, port: int, backend: str, mirror: str) -> str:
    """Return GOOD with a second service."""
    return GOOD + (
        f"  - {{name: {name}, address: 10.10.0.100, port: {port}, pool: {{backends: [{{name: c1, address: {backend},"
        f" port: 6633}}]}}, mirrors: [{{name: m, address: {mirror}, port: 6653}}]}}\n"
    )


MASTERS = """\
      - {name: master, address: 10.20.0.13, protocol: openflow, verdict: on, twin: same, warm-up: 1m}
      - {name: same, address: 10.20.0.14, protocol: openflow, verdict: on}
"""
WITH_VERDICT = GOOD.replace("      - {name: master, address: 10.20.0.13}\n", MASTERS)


def test_a_master_with_a_verdict() -> None:
    rules = parse_rules(WITH_VERDICT)
    master, same = rules.services[0].mirrors
    assert (master.verdict, master.is_compared, master.twin, master.warm_up) == ("on", True, "same", 60.0)
    assert (same.is_compared, same.twin, same.warm_up) == (True, None, 30.0)
    assert "  mirror  master verdict on twin same warm-up 1m" in describe(rules)
    assert "  mirror  same verdict on warm-up 30s" in describe(rules)
    assert rules.warnings == ()
    assert parse_rules(WITH_VERDICT.replace("warm-up: 1m", "warm-up: 0s")).services[0].mirrors[0].warm_up == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("twin: same", "twin: other", "expected the name of another mirror of the service, found other"),
        ("twin: same", "twin: master", "expected the name of another mirror of the service, found master"),
        (", protocol: openflow, verdict: on}", "}", "expected a mirror with protocol: openflow, found same without"),
        ("openflow, verdict: on}", "openflow}", "expected a mirror with verdict: on, found same without"),
    ],
)
def test_a_twin_is_another_master_with_a_verdict(old: str, new: str, expected: str) -> None:
    with pytest.raises(RulesError) as error:
        parse_rules(WITH_VERDICT.replace(old, new))
    assert str(error.value) == f"<rules>:12: services[0].mirrors[0].twin: {expected}"


def test_a_twin_has_no_twin_of_its_own() -> None:
    third = "      - {name: third, address: 10.20.0.15, protocol: openflow, verdict: on}\n"
    chain = MASTERS.replace("verdict: on}", "verdict: on, twin: third}") + third
    with pytest.raises(
        RulesError, match=r"mirrors\[0\]\.twin: expected a mirror without a twin of its own, found same"
    ):
        parse_rules(WITH_VERDICT.replace(MASTERS, chain))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("on, twin", "off, twin", ["has a twin without verdict: on", "has a warm-up without verdict: on"]),
        ("warm-up: 1m", "sample: 10%", ["and its twin same differ in sample or only"]),
        ("warm-up: 1m", "only: [10.10.0.0/28]", ["and its twin same differ in sample or only"]),
    ],
)
def test_settings_that_say_nothing_about_a_master_give_a_warning(old: str, new: str, expected: list[str]) -> None:
    warnings = parse_rules(WITH_VERDICT.replace(old, new)).warnings
    for warning, part in zip(warnings, expected, strict=True):
        assert warning.startswith(f"mirror master of openflow {part}")


def test_services_differ_in_name_and_endpoint() -> None:
    with pytest.raises(RulesError, match=r"13: services\[1\]: expected a unique name, found openflow again"):
        parse_rules(second("openflow", 1, "10.20.0.21", "10.20.0.23"))
    with pytest.raises(RulesError, match=r"13: services\[1\]: .*10\.10\.0\.100:6653 of openflow again"):
        parse_rules(second("other", 6653, "10.20.0.21", "10.20.0.23"))


def test_an_endpoint_in_two_services_gives_a_warning() -> None:
    warnings = parse_rules(second("other", 1, "10.20.0.11", "10.20.0.13")).warnings
    assert [warning.split(":6")[0] for warning in warnings] == ["backend 10.20.0.11", "mirror 10.20.0.13"]


def test_buffers_that_one_client_may_not_fill_give_a_warning() -> None:
    assert parse_rules(GOOD).warnings == ()
    [warning] = parse_rules("mirror-memory: 128MiB\n" + GOOD).warnings
    assert "may buffer 16MiB for its mirrors, but one client may hold 8MiB" in warning
    assert CLIENT_SHARE == constants.CLIENT_SHARE


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "1: expected rules, found an empty file"),
        (b"# nothing\n", "1: expected rules, found an empty file"),
        (
            b"- a\n",
            "1: expected a mapping with switches, services, mirror-memory, max-flows, timeouts, threads,"
            " limit-per-client, known-switches, metrics, api, events, ha, found a list",
        ),
        (b"a: [1\n", "2: expected YAML, found: "),
        (b"a:\n  b: 1\n c: 2\n", "3: expected YAML, found: a line whose indentation fits none of the lines above it"),
        (b"a: 1\nb: \xff\n", "2: expected UTF-8 text, found byte 0xff"),
        (b"a: *nowhere\n", "1: expected YAML, found: "),
    ],
)
def test_a_file_without_rules_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "lb.yaml"
    path.write_bytes(raw)
    with pytest.raises(RulesError) as error:
        load_rules(path)
    assert str(error.value).startswith(f"{path}:{message}")
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(RulesError, match=str(path)):
            load_rules(path)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(RulesError, match="at most"):
        load_rules(huge)


@given(st.text())
def test_each_text_gives_rules_or_an_error_of_one_line(text: str) -> None:
    with pytest.raises(RulesError) as error:
        parse_rules(text)
    assert "\n" not in str(error.value)


@given(st.data())
def test_each_damaged_file_gives_rules_or_an_error_of_one_line(data: st.DataObject) -> None:
    text = list(GOOD)
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=5)):
        text[at] = data.draw(st.sampled_from("[]{}:,-&*!|>#%@`'\"\t\n 0a\x00\u20ac"))
    try:
        parse_rules("".join(text))
    except RulesError as error:
        assert "\n" not in str(error)
        assert error.lines
        assert not any("\n" in line for line in error.lines)
