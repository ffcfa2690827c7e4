"""The backends' shares of new connections: health, drains and slow starts, with a manual clock."""

import pytest

from natmirror.backends.admission import Admission, Kill, Panic, Share
from natmirror.rules import Override, OverrideKind, parse_rules
from tests.helpers.overrides import drain, end, follow, override, undrain
from tests.helpers.support import RULES, at

CHECKED = {"health": "{check: tcp, interval: 1s}"}
AGAIN = Kill("openflow", "c1", is_repeated=True)


def pool(**keys: str) -> Admission:
    words = "".join(f"      {key.replace('_', '-')}: {value}\n" for key, value in keys.items())
    return Admission(parse_rules(RULES.replace("    pool:\n", f"    pool:\n{words}")), 0.0)


def state(one: Admission, backend: str = "c1", now: float = 0.0) -> str:
    return str(one.show(now)["openflow", backend]["state"])


def test_a_backend_that_goes_down_is_closed_and_its_connections_are_reset() -> None:
    one = pool(**CHECKED)
    down = one.set_health("openflow", "c1", is_up=False, reason="refused", now=5.0)
    assert down == [Share("openflow", "c1", 0.0), Kill("openflow", "c1")]
    assert one.set_health("openflow", "c1", is_up=False, reason="refused", now=6.0) == []
    assert [one.tick(now) for now in (5.9, 6.0, 9.9, 10.0, 11.0)] == [[], [AGAIN], [], [AGAIN], []]
    shown = one.show(7.0)["openflow", "c1"]
    assert (shown["state"], shown["reason"], shown["state_seconds"], shown["share"]) == ("down", "refused", 2.0, 0.0)
    assert one.set_health("openflow", "c1", is_up=True, reason="", now=8.0) == [Share("openflow", "c1", 1.0)]
    assert (state(one), one.show(8.0)["openflow", "c1"]["reason"]) == ("up", "")


def test_with_when_down_keep_the_connections_stay() -> None:
    one = pool(when_down="keep")
    assert one.set_health("openflow", "c1", is_up=False, reason="x", now=5.0) == [Share("openflow", "c1", 0.0)]


def test_a_drained_backend_shows_since_when_it_is_drained() -> None:
    one = pool()
    drain(one, "c1", 10.0)
    assert one.show(25.0)["openflow", "c1"]["state_seconds"] == 15.0
    undrain(one, "c1", 30.0)
    assert one.show(31.0)["openflow", "c1"]["state_seconds"] == 31.0, "it has been up all the time"
    kept = Override(OverrideKind.DRAIN, "openflow", "c1", "", at=5000.0, is_kept=True)
    again = pool()
    again.follow(again.overrides.including(kept), 1.0, 5100.0)  # by a run before this one
    assert again.show(2.0)["openflow", "c1"]["state_seconds"] == 101.0


def test_a_drained_backend_keeps_its_connections_until_the_deadline() -> None:
    one = pool()
    assert drain(one, "c1", 10.0, 60.0) == [Share("openflow", "c1", 0.0)]
    assert (state(one), one.next_tick(10.0)) == ("draining", 70.0)
    assert one.tick(69.9) == []
    assert one.tick(70.0) == [Kill("openflow", "c1")]
    assert [one.tick(now) for now in (71.0, 75.0)] == [[AGAIN], [AGAIN]], "a RST may be lost"
    assert one.next_tick(75.0) is None
    assert undrain(one, "c1", 80.0) == [Share("openflow", "c1", 1.0)]
    assert undrain(one, "c1", 80.0) == []


def test_the_deadline_of_a_drain_holds_when_its_backend_is_removed_from_the_rules() -> None:
    without = parse_rules(RULES.replace("        - {name: c1, address: 10.20.0.11}\n", ""))
    one = pool()
    drain(one, "c1", 10.0, 60.0)
    for now in (20.0, 30.0):
        one.reload(without, now)
    assert one.next_tick(30.0) == 70.0
    assert one.tick(69.9) == []
    assert one.tick(70.0) == [Kill("openflow", "c1")]
    assert [one.tick(now) for now in (71.0, 75.0)] == [[AGAIN], [AGAIN]]
    assert one.next_tick(75.0) is None
    again = pool()
    drain(again, "c1", 10.0, 60.0)
    again.reload(without, 20.0)
    again.reload(parse_rules(RULES), 30.0)
    assert again.tick(70.0) == [], "it is in the rules again, and not drained"


def test_a_drain_without_a_deadline_never_ends() -> None:
    one = pool()
    drain(one, "c1", 10.0)
    assert one.next_tick(10.0) is None
    assert one.tick(1e9) == []


def test_a_drained_backend_that_comes_up_again_stays_drained() -> None:
    one = pool()
    one.set_health("openflow", "c1", is_up=False, reason="x", now=1.0)
    assert drain(one, "c1", 2.0) == []
    assert one.set_health("openflow", "c1", is_up=True, reason="", now=3.0) == []
    assert undrain(one, "c1", 4.0) == [Share("openflow", "c1", 1.0)]


def test_a_backend_that_comes_up_begins_with_a_slow_start() -> None:
    one = pool(**CHECKED, slow_start="10s")
    one.set_health("openflow", "c1", is_up=False, reason="x", now=95.0)
    assert [one.tick(now) for now in (96.0, 100.0)] == [[AGAIN], [AGAIN]]
    assert one.next_tick(100.0) is None
    assert one.set_health("openflow", "c1", is_up=True, reason="", now=101.0) == [Share("openflow", "c1", 0.05)]
    shares, now = [], 101.0
    while (due := one.next_tick(now)) is not None:
        now = due
        shares += [change.share for change in one.tick(now) if isinstance(change, Share)]
    assert shares == sorted(shares)
    assert (shares[-1], len(shares)) == (1.0, 19)
    assert 110.0 <= now <= 111.5
    assert state(one) == "up"


def test_an_unknown_backend_is_an_error() -> None:
    with pytest.raises(ValueError, match="no backend c9 in openflow"):
        pool().endpoints("openflow", "c9")


def test_a_reload_keeps_the_health_and_the_drain_of_backends() -> None:
    text = RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n")
    one = Admission(parse_rules(text), 0.0)
    one.set_health("openflow", "c1", is_up=False, reason="refused", now=1.0)
    drain(one, "c2", 2.0, 60.0)
    more = (
        text
        + "  - {name: other, address: 10.10.0.100, port: 7000, pool: {backends: [{name: c1, address: 10.20.0.11}]}}\n"
    )
    changes = one.reload(parse_rules(more), 3.0)
    assert changes == [Share("openflow", "c1", 0.0), Share("openflow", "c2", 0.0), Share("other", "c1", 1.0)]
    assert (state(one, "c1"), state(one, "c2")) == ("down", "draining")
    assert one.tick(62.0) == [Kill("openflow", "c2"), AGAIN, AGAIN]
    one.reload(parse_rules(text.replace("10.20.0.11", "10.20.0.19")), 70.0)
    assert state(one, "c1") == "up", "with another address it is another backend"
    with pytest.raises(ValueError, match="no backend c1 in other"):
        one.endpoints("other", "c1")


def test_a_result_about_an_earlier_backend_of_the_name_is_refused() -> None:
    text = RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n")
    one = Admission(parse_rules(text), 0.0)
    one.reload(parse_rules(text.replace("10.20.0.11", "10.20.0.19")), 1.0)
    with pytest.raises(ValueError, match=r"backend c1 of openflow is no longer checked at 10\.20\.0\.11:6653"):
        one.set_health("openflow", "c1", is_up=False, reason="refused", now=2.0, place=at("10.20.0.11", 6653))
    assert state(one) == "up"
    one.set_health("openflow", "c1", is_up=False, reason="refused", now=2.0, place=at("10.20.0.19", 6653))
    assert state(one) == "down"
    one.reload(parse_rules(RULES), 3.0)
    with pytest.raises(ValueError, match="is no longer checked"):
        one.set_health("openflow", "c1", is_up=False, reason="refused", now=4.0, place=at("10.20.0.11", 6653))


def test_a_backend_without_checks_after_a_reload_is_up() -> None:
    text = RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n")
    one = Admission(parse_rules(text), 0.0)
    one.set_health("openflow", "c1", is_up=False, reason="refused", now=1.0)
    assert Share("openflow", "c1", 1.0) in one.reload(parse_rules(RULES), 2.0)


def test_a_new_backend_begins_with_a_slow_start_which_a_reload_may_end() -> None:
    slow = RULES.replace("    pool:\n", "    pool:\n      slow-start: 10s\n")
    one = Admission(parse_rules(slow.replace("        - {name: c2, address: 10.20.0.12}\n", "")), 0.0)
    assert one.reload(parse_rules(slow), 5.0) == [Share("openflow", "c1", 1.0), Share("openflow", "c2", 0.05)]
    assert one.next_tick(5.0) == 5.5
    assert one.reload(parse_rules(RULES), 6.0)[1] == Share("openflow", "c2", 1.0)
    assert one.next_tick(6.0) is None


def test_a_weight_holds_beside_health_and_slow_start_until_it_is_taken_back() -> None:
    rules = parse_rules(RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n"))
    one = Admission(rules, 0.0)
    heavy = override(rules, OverrideKind.WEIGHT, "c1", weight=3)
    assert follow(one, heavy, 1.0) == [Share("openflow", "c1", 1.0, 3)]
    assert follow(one, heavy, 2.0) == []
    assert one.show(2.0)["openflow", "c1"]["weight"] == 3
    assert falls(one, "c1", 3.0, isolated=False)[0] == Share("openflow", "c1", 0.0, 3)
    one.reload(rules, 4.0)
    assert one.follow(one.overrides, 4.0, 4.0) == []
    assert Share("openflow", "c1", 0.0, 3) in one.shares()
    assert rises(one, "c1", 5.0) == [Share("openflow", "c1", 1.0, 3)]
    assert end(one, heavy.key, 6.0) == [Share("openflow", "c1", 1.0)]
    shown = one.show(6.0)["openflow", "c1"]
    assert (shown["weight"], shown["weight_in_rules"]) == (1, 1)


def test_a_drain_and_its_end_say_where_new_connections_go() -> None:
    one = pool(slow_start="30s")
    drain(one, "c1", 10.0)
    assert one.after_drain("openflow", was_open=True) == "new ones go to c2"
    one.set_health("openflow", "c2", is_up=False, reason="refused", now=11.0)
    for was_open, which in (
        (True, "it was the last open backend of openflow"),
        (False, "no backend of openflow is open"),
    ):
        rest = "new ones are dropped until natmirror undrain"
        assert one.after_drain("openflow", was_open=was_open) == f"{which}: {rest}"
    undrain(one, "c1", 12.0)
    assert one.after_undrain("openflow", "c1") == "openflow/c1 gets new connections, in a slow start of 30 s"
    undrain(one, "c2", 12.0)
    assert one.after_undrain("openflow", "c2") == "openflow/c2 is drained no more, but it is down: refused"


def test_without_a_backend_the_sorry_server_or_a_refusal_answers() -> None:
    for keys, expected in (
        ({"when_none": "refuse"}, "new ones are refused until natmirror undrain"),
        ({"sorry": "{name: s, address: 10.20.0.99}"}, "new ones go to the sorry server s"),
    ):
        one = pool(**keys)
        for backend in ("c1", "c2"):
            drain(one, backend, 10.0)
        assert one.after_drain("openflow", was_open=True).endswith(expected)


TWO_INTERVALS = 2.0


def falls(one: Admission, backend: str, now: float, *, isolated: bool = True) -> list[object]:
    return list(one.set_health("openflow", backend, is_up=False, reason="no answer", now=now, is_isolated=isolated))


def rises(one: Admission, backend: str, now: float) -> list[object]:
    return list(one.set_health("openflow", backend, is_up=True, reason="", now=now))


def states(one: Admission) -> dict[str, str]:
    return {name: str(shown["state"]) for (_, name), shown in one.show(0.0).items()}


def test_a_backend_that_goes_down_alone_keeps_its_connections_for_two_intervals_at_most() -> None:
    one = pool(**CHECKED)
    assert falls(one, "c1", 5.0) == [Share("openflow", "c1", 0.0)]
    assert (states(one), one.current_kills()) == ({"c1": "down", "c2": "up"}, [])
    assert one.next_tick(5.0) == 5.0 + TWO_INTERVALS
    assert one.tick(6.9) == []
    assert one.tick(7.0) == [Kill("openflow", "c1")]
    assert one.current_kills() == [Kill("openflow", "c1")]
    assert falls(one, "c2", 7.5) == [Share("openflow", "c2", 0.0)], "the other one was no longer up"
    assert Kill("openflow", "c2") in one.tick(9.5)


def test_backends_that_go_down_together_keep_their_connections_until_one_is_up() -> None:
    one = pool(**CHECKED)
    falls(one, "c1", 5.0)
    assert falls(one, "c2", 6.9) == [
        Share("openflow", "c1", 1.0),
        Panic("openflow", has_begun=True),
    ], "c2 is open as before"
    assert (states(one), one.next_tick(7.0)) == ({"c1": "panic", "c2": "panic"}, None)
    assert (one.tick(1000.0), one.current_kills()) == ([], [])
    assert rises(one, "c2", 1000.0) == [
        Share("openflow", "c1", 0.0),
        Panic("openflow", has_begun=False),
    ]
    assert states(one) == {"c1": "down", "c2": "up"}
    assert one.tick(1002.9) == []
    assert one.tick(1003.0) == [Kill("openflow", "c1")], "the kernel may find the others' addresses a second later"


def test_a_backend_that_comes_up_after_a_panic_keeps_its_connections() -> None:
    one = pool(**CHECKED)
    falls(one, "c1", 5.0)
    falls(one, "c2", 5.1)
    rises(one, "c1", 8.0)
    assert rises(one, "c2", 9.0) == [Share("openflow", "c2", 1.0)]
    assert (one.next_tick(9.0), one.tick(100.0)) == (None, [])


def test_in_a_panic_a_sorry_server_gets_the_new_connections() -> None:
    one = pool(**CHECKED, sorry="{name: s, address: 10.20.0.19}")
    falls(one, "c1", 5.0)
    assert falls(one, "c2", 5.1) == [Share("openflow", "c2", 0.0), Panic("openflow", has_begun=True)]
    assert [one.show(6.0)["openflow", name]["share"] for name in ("c1", "c2")] == [0.0, 0.0]


def test_without_a_second_target_or_with_one_that_answers_nothing_panics() -> None:
    one = pool(**CHECKED)
    for name in ("c1", "c2"):
        assert falls(one, name, 5.0, isolated=False) == [Share("openflow", name, 0.0), Kill("openflow", name)]
    other = pool(**CHECKED, panic="100%")
    falls(other, "c1", 5.0)
    falls(other, "c2", 5.0)
    assert {change for change in other.tick(7.0) if change not in (AGAIN,)} == {
        Kill("openflow", "c1"),
        Kill("openflow", "c2"),
    }


def test_a_drained_backend_gets_no_connections_in_a_panic() -> None:
    one = pool(**CHECKED)
    drain(one, "c1", 1.0)
    falls(one, "c1", 5.0)
    falls(one, "c2", 5.0)
    assert [one.show(6.0)["openflow", name]["share"] for name in ("c1", "c2")] == [0.0, 1.0]
    assert states(one) == {"c1": "draining", "c2": "panic"}


def test_a_backend_without_checks_is_unchecked() -> None:
    one = pool()
    shown = one.show(0.0)["openflow", "c1"]
    assert (shown["state"], shown["healthy"], shown["share"]) == ("unchecked", None, 1.0)
