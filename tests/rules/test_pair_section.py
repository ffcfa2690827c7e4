"""The section ha of a rules file: the pair that it gives, and the errors of a bad one."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from natmirror.errors import RulesError
from natmirror.rules import Host, Side, load_rules, parse_rules
from natmirror.rules.reload import refuse_what_cannot_change
from natmirror.rules.text import describe
from natmirror.tcp.record_masks import masks

EXAMPLE = Path(__file__).parents[2] / "rules/pair.yaml"
GOOD = """\
switches: [10.10.0.0/24]
services:
  - {name: openflow, address: 10.10.0.100, port: 6653, pool: {backends: [{name: c1, address: 10.20.0.11}]}}
ha:
  hosts:
    - {name: lb1, switch-side: 10.10.0.1, pool-side: 10.20.0.1, priority: 110}
    - {name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}
  switch-side: {interface: sw0, addresses: [10.10.0.100/24], vrrp-id: 51}
  pool-side: {interface: pl0, addresses: [10.20.0.100/24], vrrp-id: 52}
"""


def with_state(url: str) -> str:
    return f"{GOOD}  state: {url}\n"


def test_a_pair_and_its_defaults() -> None:
    pair = parse_rules(GOOD).ha
    assert pair is not None
    assert pair.hosts[0] == Host("lb1", IPv4Address("10.10.0.1"), IPv4Address("10.20.0.1"), 110)
    assert pair.switch_side == Side("sw0", (IPv4Interface("10.10.0.100/24"),), 51)
    assert pair.addresses == (IPv4Interface("10.10.0.100/24"), IPv4Interface("10.20.0.100/24"))
    assert (pair.advert_interval, pair.state) == (0.2, None)


def test_a_host_alone_has_no_pair() -> None:
    assert parse_rules(GOOD[: GOOD.index("ha:")]).ha is None


def test_the_example_is_a_pair() -> None:
    pair = load_rules(EXAMPLE).ha
    assert pair is not None
    assert [host.name for host in pair.hosts] == ["lb1", "lb2"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://10.20.0.30",
        "redis://10.20.0.30:6380",
        "redis://10.20.0.30:6380/3",
        "redis://:a:b%2Fc@10.20.0.30:6379/0",
    ],
)
def test_state_is_kept_as_it_is_written(url: str) -> None:
    pair = parse_rules(with_state(url)).ha
    assert pair is not None
    assert pair.state == url


def test_a_pair_is_described_without_its_password() -> None:
    text = describe(parse_rules(with_state("redis://natmirror:sec:ret@10.20.0.30:6379/0")))
    assert "pair: advert-interval 200ms state redis://natmirror:***@10.20.0.30:6379/0" in text
    assert "host lb2 switch-side 10.10.0.2 pool-side 10.20.0.2 priority 100" in text
    assert "switch-side sw0 10.10.0.100/24 vrrp-id 51" in text
    assert "state not shared" in describe(parse_rules(GOOD))


def test_the_key_is_kept_and_never_shown() -> None:
    secret = "correct horse battery"
    rules = parse_rules(f"{with_state('redis://10.20.0.30')}  key: {secret}\n")
    assert rules.ha is not None
    assert rules.ha.key == secret
    assert "redis://10.20.0.30 key set" in describe(rules)
    assert "key not set" in describe(parse_rules(GOOD))
    assert not any(secret in text for text in (describe(rules), repr(rules), *rules.warnings))
    assert rules.warnings == ()


def test_a_key_without_state_gives_a_warning() -> None:
    warnings = parse_rules(f"{GOOD}  key: correct horse battery\n").warnings
    assert warnings == ("ha.key is set without ha.state: it has no effect, because the hosts share nothing",)


@pytest.mark.parametrize("value", ["hunter2hunter2!", "''", "[hunter2hunter2hunter2]", "{hunter2: x}", "x" * 1025])
def test_a_bad_key_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(RulesError) as error:
        parse_rules(f"{with_state('redis://10.20.0.30')}  key: {value}\n")
    assert str(error.value).startswith("<rules>:11: ha.key: expected a secret text of 16 to 1024 characters, found ")
    assert "hunter" not in str(error.value)


@pytest.mark.parametrize(
    "value", ["*hunter2hunter2", "!hunter2!hunter2", "'hunter2", "[hunter2", "hunter2: x", "@hunter2"]
)
def test_a_key_with_yaml_syntax_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(RulesError, match=r"^<rules>:1[12]: expected YAML, found: ") as error:
        parse_rules(f"{with_state('redis://10.20.0.30')}  key: {value}\n")
    assert "hunter" not in str(error.value)


def test_the_key_cannot_change_while_natmirror_runs() -> None:
    old, new = (parse_rules(f"{with_state('redis://10.20.0.30')}  key: the secret of number {one}\n") for one in (1, 2))
    with pytest.raises(RulesError, match="ha: cannot change") as error:
        refuse_what_cannot_change(old, new)
    assert "secret" not in str(error.value)


def test_both_hosts_derive_the_same_masks_and_others_do_not() -> None:
    texts = [
        GOOD,
        with_state("redis://10.20.0.30"),
        with_state("redis://:password@10.20.0.30"),
        f"{with_state('redis://10.20.0.30')}  key: correct horse battery\n",
        f"{with_state('redis://10.20.0.30')}  key: wrong horse battery\n",
        with_state("redis://10.20.0.30").replace("vrrp-id: 52", "vrrp-id: 53"),
    ]
    keys = [masks(parse_rules(text).ha).pair_key for text in texts]
    assert len(set(keys)) == len(keys)
    assert keys == [masks(parse_rules(text).ha).pair_key for text in texts]
    assert masks(None).pair_key not in keys
    moved = f"{with_state('redis://10.20.0.31')}  key: correct horse battery\n"
    assert masks(parse_rules(moved).ha).pair_key == keys[3], "with a key, the masks depend on it alone"


# Each is GOOD with one change, and the beginning of the error that it gives.
MISTAKES = [
    ("priority: 110", "priority: 255", "6: ha.hosts[0].priority: expected 1..254, found 255"),
    ("priority: 100", "priority: 110", "7: ha.hosts[1]: expected a unique priority, found 110 again"),
    ("name: lb2", "name: lb1", "7: ha.hosts[1]: expected a unique name, found lb1 again"),
    ("10.10.0.2,", "10.20.0.1,", "7: ha.hosts[1]: expected unique addresses, found 10.20.0.1 again"),
    (
        "pool-side: 10.20.0.2",
        "pool-side: 10.20.0.100",
        "7: ha.hosts[1].pool-side: expected the host's own address, not a virtual one, found 10.20.0.100",
    ),
    (", priority: 100", "", "7: ha.hosts[1]: expected the key priority, found only name, switch-side, pool-side"),
    (
        "\n    - {name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}",
        "",
        "6: ha.hosts: expected two hosts, found 1",
    ),
    ("vrrp-id: 52", "vrrp-id: 51", "9: ha.pool-side: expected a unique vrrp-id, found 51 again"),
    ("vrrp-id: 52", "vrrp-id: 256", "9: ha.pool-side.vrrp-id: expected 1..255, found 256"),
    ("interface: sw0", "interface: sw/0", "8: ha.switch-side.interface: expected the name of a network interface"),
    (
        "addresses: [10.20.0.100/24]",
        "addresses: [10.20.0.100]",
        "9: ha.pool-side.addresses[0]: expected an address with its prefix length, such as 10.10.0.100/24,"
        " found 10.20.0.100",
    ),
    (
        "addresses: [10.20.0.100/24]",
        "addresses: [10.20.0.100/33]",
        "9: ha.pool-side.addresses[0]: expected an address with its prefix length",
    ),
    (
        "addresses: [10.20.0.100/24]",
        "addresses: [10.20.0.100/24, 10.20.0.100/32]",
        "9: ha.pool-side.addresses[1]: expected each address once, found 10.20.0.100 twice",
    ),
    (
        "addresses: [10.20.0.100/24]",
        "addresses: [10.10.0.100/24]",
        "9: ha.pool-side: expected unique addresses, found 10.10.0.100 again",
    ),
    (
        "addresses: [10.10.0.100/24]",
        "addresses: [10.10.0.101/24]",
        "8: ha.switch-side: expected the address of service openflow, 10.10.0.100, among the virtual ones, found"
        " 10.10.0.101",
    ),
    ("  pool-side: {interface", "  pol-side: {interface", "9: ha.pol-side: expected one of the keys hosts"),
]


@pytest.mark.parametrize(("good", "bad", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_a_mistake_is_one_line_with_its_place(good: str, bad: str, message: str) -> None:
    assert good in GOOD
    with pytest.raises(RulesError) as error:
        parse_rules(GOOD.replace(good, bad, 1), "pair.yaml")
    assert str(error.value).startswith(f"pair.yaml:{message}")


@pytest.mark.parametrize("interval", ["5ms", "15ms", "41s", "soon"])
def test_an_interval_that_vrrp_cannot_carry_is_refused(interval: str) -> None:
    with pytest.raises(RulesError, match=r"^<rules>:10: ha\.advert-interval: expected a duration from 10ms to 40.95s"):
        parse_rules(f"{GOOD}  advert-interval: {interval}\n")


@pytest.mark.parametrize("interval", [0.01, 0.05, 1.0, 40.95])
def test_an_interval_in_steps_of_ten_milliseconds_is_read(interval: float) -> None:
    pair = parse_rules(f"{GOOD}  advert-interval: {round(1000 * interval)}ms\n").ha
    assert pair is not None
    assert pair.advert_interval == pytest.approx(interval)


@pytest.mark.parametrize(
    "url",
    [
        "10.20.0.30:6379",
        "rediss://10.20.0.30",
        "redis://",
        "redis://store.example:6379",
        "redis://10.20.0.30:0",
        "redis://10.20.0.30:70000",
        "redis://10.20.0.30/first",
        "redis://10.20.0.30/0?db=1",
        "redis://0.0.0.0",
        "redis://[::1]:6379",
        "'redis://10.20.0.30 '",
        "[redis]",
    ],
)
def test_a_bad_url_is_refused_and_its_password_is_not_shown(url: str) -> None:
    secret = url.replace("redis://", "redis://:secret@", 1)
    with pytest.raises(RulesError) as error:
        parse_rules(with_state(secret))
    assert str(error.value).startswith("<rules>:10: ha.state: expected redis://ADDRESS:PORT/DATABASE with an IPv4")
    assert "secret" not in str(error.value)


def test_bindings_that_cannot_be_derived_give_a_warning_without_state() -> None:
    without_maglev = GOOD.replace("pool: {", "pool: {balance: round-robin, ")
    [warning] = parse_rules(without_maglev).warnings
    assert warning.startswith("service openflow has balance: round-robin without ha.state")
    assert parse_rules(f"{without_maglev}  state: redis://10.20.0.30\n").warnings == ()
    assert parse_rules(GOOD).warnings == ()
    limited = GOOD.replace("address: 10.20.0.11}", "address: 10.20.0.11, max-connections: 5}")
    assert parse_rules(limited).warnings[0].startswith("service openflow has max-connections without ha.state")


def test_a_source_of_legs_that_only_one_host_has_is_refused() -> None:
    mirror = (
        "pool: {backends: [{name: c1, address: 10.20.0.11}]}, mirrors: [{name: m, address: 10.20.0.13, source: %s}]"
    )
    rules = GOOD.replace("pool: {backends: [{name: c1, address: 10.20.0.11}]}", mirror)
    assert parse_rules(rules % "10.20.0.100").ha is not None
    with pytest.raises(RulesError) as error:
        parse_rules(rules % "10.20.0.2")
    assert str(error.value) == (
        "<rules>:5: ha: expected a virtual address as source of mirror m of service openflow, found 10.20.0.2, which"
        " only lb2 has"
    )
