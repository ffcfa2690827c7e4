"""A part of a host's state in a form that natmirror does not know costs that part alone."""

from collections.abc import Iterable, Iterator
from errno import ENETUNREACH
from ipaddress import IPv4Address

import pytest

from natmirror.linux import host_state
from natmirror.linux.attachment_watch import AttachmentWatch, Passing
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.host_state import Features, HostState
from natmirror.linux.path_checks import find_path_problems
from natmirror.linux.preflight import check
from natmirror.linux.routes import Answer, Question
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.sampled_clients import Client, LiveClients
from natmirror.linux.unknown_form import understanding
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

LOCAL = IPv4Address("127.0.0.1")
PASSES = AttachmentWatch(), Passing(has_passed=True), 0.0


class UnknownRules(RuleReader):
    def read(self) -> list[BaseChain]:
        with understanding("what nft prints"):
            raise KeyError("prio")


class NoRules(RuleReader):
    def read(self) -> list[BaseChain]:
        return []


def unknown(*_: object) -> Iterator[None]:
    raise ValueError("no number")


def found(reader: RuleReader) -> dict[str, str]:
    """Return what a check of this machine says of parts that it does not understand, by their names."""
    problems = check(parse_rules(RULES), Features(), reader, LiveClients(), (), *PASSES)
    assert all(one.code.severity == "warning" for one in problems if one.code == "not-understood")
    return {one.subject: str(one) for one in problems if one.code == "not-understood"}


def test_other_programs_rules_and_policy_rules_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(NoRules()) == {}
    refused = Question(IPv4Address("240.0.0.1"), LOCAL, "lo")
    monkeypatch.setattr(host_state, "questions", lambda *_: [refused])
    monkeypatch.setattr(host_state, "refusing_rules", unknown)
    rules, policy_rules = found(UnknownRules()).values()
    assert "cannot check other programs' rules" in rules and "what nft prints (KeyError('prio'))" in rules
    assert "cannot check policy rules" in policy_rules and "ValueError('no number')" in policy_rules


def test_without_addresses_and_routes_nothing_else_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_state, "read_links", unknown)
    problems = check(parse_rules(RULES), Features(), NoRules(), LiveClients(), (), *PASSES)
    assert [str(one.code) for one in problems] == ["not-understood"]
    assert "this host's addresses, routes and sockets" in str(problems[0])


class PolicyRoutes:
    """A kernel with routes for packets that come in by the interfaces of this table: none for this host's own."""

    def __init__(self, **routes: str) -> None:
        self._routes = routes

    def ask(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        links = {one: self._routes.get(one.link or "") for one in questions}
        return {one: Answer(ENETUNREACH) if link is None else Answer(link=link) for one, link in links.items()}


def test_a_route_that_only_packets_of_clients_and_copies_have_is_a_route() -> None:
    rules = parse_rules(RULES)
    c1, c2, master = (IPv4Address(f"10.20.0.{number}") for number in (11, 12, 13))
    client = Client(IPv4Address("10.10.0.11"), rules.switches[0], ("sw0",), is_beside=True)
    host = HostState(routes={c1: "pl0", c2: None, master: None}, clients=[client], interfaces={"natmirror0"})
    for kernel, expected in (
        (PolicyRoutes(sw0="pl1"), {c1: "pl0", c2: "pl1", master: None}),
        (PolicyRoutes(sw0="pl1", natmirror0="pl2"), {c1: "pl0", c2: "pl1", master: "pl2"}),
    ):
        host_state._read_routes_of_packets(kernel, rules, host)  # type: ignore[arg-type]
        assert host.routes == expected
    problems = [one.code for service in rules.services for one in find_path_problems(service, host)]
    assert problems == []
