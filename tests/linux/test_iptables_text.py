"""Our part of a table as text: what differs, and the inputs that put it right."""

import pytest

from natmirror.linux.iptables_rules import CHAINS, OURS, PRE, PRE_ERRORS, Chain
from natmirror.linux.iptables_text import differences, emptied, is_complete, put_back, refilled, state_of

SAVED = """\
*raw
:PREROUTING ACCEPT [5:300]
:OUTPUT ACCEPT [0:0]
:NATMIRROR-OURS - [0:0]
:NATMIRROR-PRE - [0:0]
:NATMIRROR-PRE-ICMP - [0:0]
-A PREROUTING ! -i natmirror+ -p tcp -j NATMIRROR-PRE
-A PREROUTING -p icmp -j NATMIRROR-PRE-ICMP
-A PREROUTING -i natmirror+ -j NATMIRROR-OURS
-A PREROUTING -s 192.0.2.1/32 -j DROP
-A NATMIRROR-OURS -j CT --notrack
-A NATMIRROR-PRE -d 10.10.0.100/32 -p tcp -m tcp --dport 6653 -j NFQUEUE --queue-num 6653
-A NATMIRROR-PRE -s 10.20.0.13/32 -j DROP
-A NATMIRROR-PRE-ICMP -d 10.10.0.100/32 -p icmp -m icmp --icmp-type 3 -j NFQUEUE --queue-num 6653
COMMIT
""".splitlines()
FILLED: dict[Chain, list[str]] = {
    **{chain: [] for chain in CHAINS},
    OURS: ["-j CT --notrack"],
    PRE: ["-d 10.10.0.100/32 -p tcp --dport 6653 -j NFQUEUE --queue-num 6653", "-s 10.20.0.13/32 -j DROP"],
    PRE_ERRORS: ["-d 10.10.0.100/32 -p icmp --icmp-type 3 -j NFQUEUE --queue-num 6653"],
}
STALE = [
    ":NATMIRROR-OLD - [0:0]",
    "-A PREROUTING -p udp -j NATMIRROR-OLD",
    "-A NATMIRROR-OLD -j NATMIRROR-PRE",
]


def without(*starts: str) -> list[str]:
    return [line for line in SAVED if not line.startswith(starts)]


def replaced(before: str, after: str) -> list[str]:
    return [line.replace(before, after) for line in SAVED]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (SAVED, []),
        (replaced("[5:300]", "[9:800]"), []),
        (without("-A PREROUTING -s"), []),
        ([*SAVED, "-A PREROUTING -s 192.0.2.2/32 -j DROP"], []),
        (without("-A NATMIRROR-PRE "), ["chain NATMIRROR-PRE has 0 rules instead of 2"]),
        (replaced("10.20.0.13", "10.20.0.19"), ["rule 2 of chain NATMIRROR-PRE is another one"]),
        (
            without(":NATMIRROR-OURS", "-A PREROUTING -i", "-A NATMIRROR-OURS"),
            ["chain NATMIRROR-OURS is missing", "the jump PREROUTING -i natmirror+ -j NATMIRROR-OURS is missing"],
        ),
        (without("-A PREROUTING -p icmp"), ["the jump PREROUTING -p icmp -j NATMIRROR-PRE-ICMP is missing"]),
        (
            [*SAVED, "-A PREROUTING -p icmp -j NATMIRROR-PRE-ICMP"],
            ["the jump PREROUTING -p icmp -j NATMIRROR-PRE-ICMP was added"],
        ),
        (
            SAVED + STALE,
            ["chain NATMIRROR-OLD is of another version", "the jump PREROUTING -p udp -j NATMIRROR-OLD was added"],
        ),
    ],
)
def test_each_change_of_our_part_is_a_difference_and_no_other_program_s(found: list[str], said: list[str]) -> None:
    assert differences(state_of(SAVED), state_of(found)) == said


ABOVE = ["-A PREROUTING -i sw0 -j ACCEPT", "-A PREROUTING -s 192.0.2.9/32 -g OTHERS"]
WATCHING = ["-A PREROUTING -j TRACE", "-A PREROUTING -p tcp", "-A PREROUTING -m limit -j LOG --log-prefix new"]


def test_rules_that_packets_meet_before_our_jumps_are_found_unless_they_only_watch() -> None:
    first = SAVED.index("-A PREROUTING ! -i natmirror+ -p tcp -j NATMIRROR-PRE")
    found = state_of([*SAVED[:first], *WATCHING, ABOVE[0], *SAVED[first : first + 2], ABOVE[1], *SAVED[first + 2 :]])
    assert found.above == [rule.removeprefix("-A ") for rule in ABOVE]
    assert differences(state_of(SAVED), found) == [], "our own part is as it was"
    assert state_of(SAVED).above == []
    assert state_of(SAVED[:first]).above == [], "there is no jump of ours"


def test_a_table_is_complete_with_as_many_rules_and_jumps_as_were_installed() -> None:
    assert is_complete("raw", FILLED, state_of(SAVED))
    for found in (
        without("-A NATMIRROR-PRE -s"),
        without("-A PREROUTING -p icmp"),
        [*SAVED, "-A PREROUTING -p icmp -j NATMIRROR-PRE-ICMP"],
        replaced("-A PREROUTING -p icmp", "-A OUTPUT -p icmp"),
        SAVED + STALE,
        [],
    ):
        assert not is_complete("raw", FILLED, state_of(found))


def test_a_repair_removes_chains_of_another_version_and_deletes_no_rule_that_it_has_flushed() -> None:
    lines = refilled("raw", FILLED, SAVED + STALE).splitlines()
    assert "-D PREROUTING -p udp -j NATMIRROR-OLD" in lines
    assert lines.index("-F NATMIRROR-OLD") < lines.index("-X NATMIRROR-OLD")
    assert "-D NATMIRROR-OLD -j NATMIRROR-PRE" not in lines
    assert [line for line in lines if line.startswith(":")] == [
        f":{chain.name} - [0:0]" for chain in (OURS, PRE_ERRORS, PRE)
    ]


def test_a_refused_start_puts_chains_of_another_version_back() -> None:
    lines = put_back("raw", SAVED + STALE).splitlines()
    assert [line for line in lines if "OLD" in line] == [
        ":NATMIRROR-OLD - [0:0]",
        "-A NATMIRROR-OLD -j NATMIRROR-PRE",
        "-I PREROUTING 1 -p udp -j NATMIRROR-OLD",
    ]
    assert not any(line.startswith("-X") for line in lines)


def test_a_removal_takes_chains_of_another_version_with_it() -> None:
    lines = emptied("raw", SAVED + STALE).splitlines()
    assert [line[3:] for line in lines if line.startswith("-X")] == [
        *("NATMIRROR-OURS", "NATMIRROR-PRE", "NATMIRROR-PRE-ICMP", "NATMIRROR-OLD")
    ]
    assert "-D PREROUTING -p udp -j NATMIRROR-OLD" in lines
    assert not any("192.0.2.1" in line for line in lines)
