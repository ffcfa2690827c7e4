"""Services that are silent, clients that cannot be reached, and whether this host is to blame; with a manual clock."""

from dataclasses import replace
from ipaddress import IPv4Address

from natmirror.fastpath import ServiceLook, Tally
from natmirror.rules import Pool, parse_rules
from natmirror.runtime.service_watch import PATIENCE, ServiceWatch
from tests.helpers.support import RULES

ONE = Tally(1, 1, IPv4Address("10.10.0.11").packed)
TWO = Tally(5, 2, IPv4Address("10.10.0.11").packed)
GOES_ON = ServiceLook(answered=9, answered_data=9, reached=9, reached_data=9)
GREETS = ServiceLook(answered=9, reached=9, connected=9)
"""Handshakes, and no more"""
WELL = replace(GOES_ON, open=TWO)
WAITING = ServiceLook(open=TWO, waiting=TWO)
IDLE = ServiceLook(open=TWO)
DEAF = ServiceLook(answered=3, open=TWO, unreached=TWO)
NOTHING = ServiceLook()


def pool() -> Pool:
    found = parse_rules(RULES).services[0].pool
    assert found is not None
    return found


class Host:
    """A host with one or two services, at which looks are taken each second."""

    def __init__(self, *, is_patient: bool = False) -> None:
        self.now = 1000.0
        self.watch = ServiceWatch(self.now, is_patient=is_patient)
        self.texts: list[str] = []

    def look(self, of: ServiceLook, web: ServiceLook | None = None, /, **up: bool) -> list[str]:
        """Take a look; return the codes of what is found."""
        self.now += 1.0
        looks = {"of": of} if web is None else {"of": of, "web": web}
        found = self.watch.take(looks, dict.fromkeys(looks, pool()), up, self.now)
        self.texts = [str(one) for one in found]
        return [str(one.code) for one in found]

    def after(self, count: int, of: ServiceLook, web: ServiceLook | None = None, /, **up: bool) -> list[str]:
        """Take the same look several times; return the codes of what the last one finds."""
        return [self.look(of, web, **up) for _ in range(count)][-1]

    @property
    def is_blamed(self) -> bool:
        return bool(self.watch.blamed)


def test_a_service_is_silent_at_the_third_look_in_a_row_until_one_backend_answers() -> None:
    host = Host()
    assert host.look(WELL) == []
    assert host.after(2, WAITING) == []
    assert host.look(WELL) == []
    assert host.after(2, WAITING) == []
    assert host.look(WAITING) == ["service-silent"]
    assert host.texts[0].startswith(
        "service-silent: no backend of service of acknowledges anything that its clients, 10.10.0.11 among"
    )
    assert "ip route get 10.20.0.11" in host.texts[0]
    assert host.is_blamed
    assert host.look(ServiceLook(answered=1, answered_data=1, open=TWO, waiting=TWO)) == []
    assert not host.is_blamed


def test_clients_that_have_just_asked_begin_a_silence_but_do_not_make_it_certain() -> None:
    host = Host()
    asked = ServiceLook(open=TWO, asking=5)
    assert host.after(9, asked) == []
    assert host.look(WAITING) == ["service-silent"]
    assert host.look(asked) == ["service-silent"]
    assert "10.10.0.11" in host.texts[0]


def test_where_several_clients_have_connections_one_alone_may_lie() -> None:
    host = Host()
    assert host.after(9, ServiceLook(open=TWO, waiting=ONE, calling=TWO, tries=9)) == []
    assert host.look(WAITING) == ["service-silent"]
    only = Host()
    assert only.after(3, ServiceLook(open=ONE, waiting=ONE)) == ["service-silent"]


def test_syns_count_where_no_client_has_a_connection_and_a_single_one_may_be_lost() -> None:
    host = Host()
    host.look(ServiceLook(calling=TWO, tries=1))
    assert host.after(8, ServiceLook(calling=TWO)) == []
    assert host.look(ServiceLook(calling=TWO, tries=1)) == []
    assert host.look(ServiceLook(calling=TWO)) == ["service-silent"]
    assert "10.10.0.11" in host.texts[0]
    assert host.is_blamed
    assert host.look(ServiceLook(answered=1)) == []
    assert host.after(2, ServiceLook(calling=TWO, tries=1)) == []


def test_handshakes_do_not_end_a_silence_in_which_connections_wait_for_data() -> None:
    host = Host()
    host.look(replace(GOES_ON, open=TWO, asking=2))
    greeting = replace(GREETS, open=TWO, waiting=TWO)
    assert host.after(3, greeting) == ["service-silent"]
    assert host.is_blamed
    assert host.after(9, replace(GREETS, open=TWO, asking=1)) == ["service-silent"]
    assert host.look(replace(GREETS, open=TWO)) == [], "no client waits, so handshakes show that it passes"
    assert host.after(2, greeting) == []
    assert host.look(ServiceLook(answered=1, answered_data=1, open=TWO, waiting=TWO)) == []
    deaf = ServiceLook(answered=9, answered_data=9, reached=9, connected=9, open=TWO, unreached=TWO)
    assert host.after(3, deaf) == ["clients-unreachable"]
    assert host.is_blamed
    assert host.look(replace(GREETS, open=TWO)) == []


def test_services_whose_handshakes_alone_pass_do_not_excuse_this_host() -> None:
    host = Host()
    host.look(WELL, WELL)
    greeting = replace(GREETS, open=TWO, waiting=TWO, stuck=TWO)
    host.after(3, greeting, greeting)
    assert host.watch.blamed == {"of", "web"}
    other = Host()
    other.look(WELL, WELL)
    other.after(3, greeting, replace(GREETS, open=TWO))
    assert other.watch.blamed == frozenset(), "of web, no client waits"


def test_one_backend_of_several_that_is_silent_is_no_failure() -> None:
    one, both = Tally(5, 2, ONE.client, 1, b"c1"), Tally(9, 2, ONE.client, 2, b"c1")
    host = Host()
    assert host.after(9, ServiceLook(open=both, unreached=one)) == []
    assert host.after(9, ServiceLook(open=both, waiting=one, stuck=one, stuck_groups=2)) == []
    assert host.look(ServiceLook(open=both, waiting=both)) == ["service-silent"]
    single = Host()
    assert single.after(3, ServiceLook(open=one, waiting=one)) == ["service-silent"]


def test_new_connections_that_fail_while_others_go_on_are_a_warning() -> None:
    host = Host()
    failing = replace(GOES_ON, open=TWO, unconnected=TWO)
    assert host.look(replace(GOES_ON, open=TWO, connecting=2)) == []
    assert host.look(failing) == []
    assert host.look(failing) == ["no-new-connections"]
    assert "10.10.0.11" in host.texts[0]
    assert not host.is_blamed
    assert host.look(replace(GOES_ON, open=TWO, unconnected=TWO, connected=1)) == []
    assert host.after(9, replace(GOES_ON, open=TWO, unconnected=Tally(9, 1, ONE.client))) == [], "it may be banned"
    assert host.after(9, replace(GOES_ON, open=ONE, unconnected=ONE)) == [], "a single SYN may be lost"
    assert host.look(replace(GOES_ON, open=ONE, unconnected=Tally(2, 1, ONE.client))) == ["no-new-connections"]
    assert host.after(59, WELL) == ["no-new-connections"]
    assert host.look(WELL) == []


def test_a_service_hardly_passes_while_four_fifths_of_its_clients_are_stuck() -> None:
    stuck = replace(GOES_ON, open=TWO, stuck=TWO, stuck_groups=20, passing_groups=5)
    host = Host()
    assert host.after(9, replace(GOES_ON, open=TWO, stuck=TWO, stuck_groups=19, passing_groups=5)) == []
    assert host.after(2, stuck) == []
    assert host.look(stuck) == ["service-hardly-passes"]
    assert "10.10.0.11" in host.texts[0]
    assert host.is_blamed
    assert host.after(59, ServiceLook(open=TWO)) == ["service-hardly-passes"]
    assert host.look(replace(GOES_ON, open=TWO, passing_groups=1)) == []
    assert host.after(3, stuck) == ["service-hardly-passes"]
    assert host.look(replace(GOES_ON, open=TWO)) == [], "late answers, after which no client waits"
    alone = replace(GOES_ON, open=TWO, stuck=ONE, stuck_groups=1)
    assert host.after(9, alone) == [], "one client of several"
    few = replace(GOES_ON, open=TWO, stuck=Tally(9999, 2, ONE.client), stuck_groups=2, passing_groups=1)
    assert host.after(9, few) == [], "two clients alone may lie"
    both = Host()
    both.look(WELL, WELL)
    both.after(4, stuck, stuck)
    assert both.watch.blamed == {"of", "web"}, "what passes now and then is no excuse"


def test_syns_of_one_address_or_past_checks_that_find_a_backend_are_a_warning() -> None:
    one = Host()
    one.look(WELL)
    assert one.after(9, ServiceLook(calling=ONE, tries=3)) == ["syns-unanswered"]
    assert "10.10.0.11" in one.texts[0]
    assert not one.is_blamed
    assert one.look(ServiceLook(answered=1)) == []
    calls = ServiceLook(calling=TWO, tries=3)
    checked = Host()
    checked.look(WELL, of=True)
    assert checked.after(9, calls, of=True) == ["syns-unanswered"]
    assert not checked.is_blamed
    assert checked.look(calls, of=False) == ["service-silent"]
    assert checked.is_blamed
    assert checked.look(calls, of=True) == ["syns-unanswered"]
    assert not checked.is_blamed


def test_syns_neither_begin_nor_end_a_silence_of_connections() -> None:
    host = Host()
    host.look(WELL, of=True)
    calls = ServiceLook(calling=TWO, tries=3)
    host.after(9, calls, of=True)
    assert host.look(WAITING, of=True) == ["syns-unanswered"]
    assert host.after(2, WAITING, of=True) == ["service-silent"]
    assert host.after(90, calls, of=True) == ["service-silent"], "none is open any more"
    assert host.is_blamed


def test_a_silence_outlasts_pauses_of_the_clients_but_not_a_minute() -> None:
    host = Host()
    host.after(3, WAITING)
    assert host.after(59, IDLE) == ["service-silent"]
    assert host.look(IDLE) == []
    assert host.after(2, WAITING) == []


def test_clients_are_unreachable_at_the_third_look_in_a_row_until_one_acknowledges_something() -> None:
    host = Host()
    assert host.after(9, ServiceLook(answered=3, open=TWO, telling=5)) == [], "clients that have died say nothing"
    assert host.look(ServiceLook(answered=3, reached=1, open=TWO)) == []
    assert host.look(ServiceLook(answered=3, open=TWO, telling=5)) == []
    assert host.look(DEAF) == []
    assert host.look(DEAF) == ["clients-unreachable"]
    assert "ip route get 10.10.0.11" in host.texts[0]
    assert host.is_blamed
    assert host.after(90, ServiceLook(answered=3, greeted=TWO)) == ["clients-unreachable"], "none is open any more"
    assert host.look(ServiceLook(answered=3, reached=1, reached_data=1, open=TWO, unreached=TWO)) == []
    assert host.after(9, ServiceLook(answered=3, open=TWO, unreached=ONE)) == []


def test_a_flood_of_syns_does_not_make_the_host_unfit() -> None:
    host = Host()
    flood = ServiceLook(answered=1000, greeted=TWO)
    assert host.after(2, flood) == []
    assert host.look(flood) == ["handshakes-incomplete"]
    assert not host.is_blamed
    assert host.look(ServiceLook(answered=1000, reached=1, greeted=TWO)) == []
    assert host.after(9, ServiceLook(answered=1, greeted=ONE)) == []


def test_a_host_is_not_blamed_for_one_service_while_another_passes() -> None:
    host = Host()
    host.look(WELL, WELL)
    assert host.after(3, WAITING, WELL) == ["service-silent"]
    assert not host.is_blamed
    assert host.after(3, WAITING, WAITING) == ["service-silent", "service-silent"]
    assert host.watch.blamed == {"web"}
    late = Host()
    late.look(WELL, WELL)
    late.look(WAITING, WELL)  # of packets that were under way
    assert late.after(2, WAITING, IDLE) == ["service-silent"]
    assert late.watch.blamed == {"of"}


def test_a_host_that_took_over_keeps_the_addresses_of_a_service_that_never_passed_there() -> None:
    host = Host(is_patient=True)
    assert host.after(3, WAITING) == ["service-silent"]
    assert not host.is_blamed
    host.after(int(PATIENCE) - 3, WAITING)
    assert not host.is_blamed
    host.look(WAITING)
    assert host.is_blamed
    elsewhere = Host(is_patient=True)
    elsewhere.look(ServiceLook(reached=1, open=TWO))
    elsewhere.after(3, WAITING)
    assert not elsewhere.is_blamed, "clients acknowledge what the other host has passed"
    well = Host(is_patient=True)
    well.look(WELL)
    well.after(3, WAITING)
    assert well.is_blamed


def test_a_host_that_lost_its_traffic_is_fit_again_after_a_minute_and_patient_then() -> None:
    host = Host()
    host.after(3, WAITING)
    assert host.is_blamed, "outside a pair, a service need not have passed before"
    host.after(60, NOTHING)
    assert not host.is_blamed
    assert host.after(int(PATIENCE), WAITING) == ["service-silent"]
    assert not host.is_blamed
    host.after(3, WAITING)
    assert host.is_blamed


def test_backends_that_are_down_by_their_checks_count_as_well() -> None:
    host = Host()
    host.look(NOTHING, of=True)
    assert host.after(5, NOTHING, of=False) == []
    assert not host.is_blamed, "a backend may only be restarting"
    host.look(NOTHING, of=False)
    assert host.is_blamed
    host.look(NOTHING, of=True)
    assert not host.is_blamed
    taken_over = Host(is_patient=True)
    taken_over.after(9, NOTHING, of=False)
    assert not taken_over.is_blamed
    other = Host()
    other.look(NOTHING, NOTHING, of=True, web=True)
    other.after(9, NOTHING, NOTHING, of=False, web=True)
    assert other.watch.blamed == frozenset()


def test_checks_do_not_excuse_a_host_whose_traffic_is_dead() -> None:
    host = Host()
    host.look(WELL, NOTHING, of=True, web=True)
    host.after(3, WAITING, NOTHING, of=True, web=True)
    assert host.watch.blamed == {"of"}
