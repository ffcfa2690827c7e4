"""Findings: what is logged, shown and counted against this host, and that each kind can be filled."""

import shlex
from collections.abc import Mapping

import pytest

from natmirror.findings import (
    ALL_CODES,
    Finding,
    FindingCode,
    FindingEntry,
    Findings,
    HostCode,
    OwnCode,
    PathCode,
    Severity,
    consequences,
)
from tests.helpers.declared import assert_declared

NO_ROUTE = PathCode.NO_ROUTE_TO_MIRROR.found(name="m", address="10.20.0.13", service="of")


@pytest.fixture
def findings(caplog: pytest.LogCaptureFixture) -> Findings:
    caplog.set_level("INFO")
    times = iter(range(100))
    return Findings(lambda: f"time {next(times)}")


@pytest.mark.parametrize("code", ALL_CODES)
def test_a_finding_of_each_kind_says_what_is_wrong_and_what_to_do(code: FindingCode) -> None:
    found = code.found(**dict.fromkeys(code.values(), "X"))
    assert found.problem
    assert found.mend
    assert "{" not in str(found)
    assert code == code.value == code.lower()


PROGRAMS = {"apt", "chmod", "ip", "iptables", "iptables-legacy-save", "modprobe", "natmirror", "nft", "ping", "ss"} | {
    *("sysctl", "systemctl", "tc", "tcpdump", "timedatectl", "ulimit", "X")
}


@pytest.mark.parametrize("code", ALL_CODES)
def test_a_command_in_a_remedy_can_be_copied_up_to_the_end_of_its_line(code: FindingCode) -> None:
    for line in code.found(**dict.fromkeys(code.values(), "X")).mend.splitlines():
        before, run, command = line.partition("run: ")
        assert "or: " not in before
        if run:
            words = shlex.split(command.replace(";", " ; "), posix=True)
            first = [word for place, word in enumerate(words) if place == 0 or words[place - 1] == ";"]
            assert {*first} <= PROGRAMS, command
            assert not {"and", "or", "if", "else"} & {*words}, command


def test_a_finding_is_logged_when_it_begins_and_when_it_ends(
    findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        findings.replace("host", [NO_ROUTE])
    findings.replace("rules", [])
    assert caplog.messages == [
        "no-route-to-mirror: there is no route to m (10.20.0.13) of service of;"
        " run: ip route add 10.20.0.13/32 via GATEWAY"
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    findings.replace("host", [])
    assert caplog.messages[1:] == [
        "no-route-to-mirror: no longer so: there is no route to m (10.20.0.13) of service of"
    ]


def test_a_finding_of_two_sources_lasts_until_both_have_taken_it_back(
    findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    findings.replace("host", [NO_ROUTE])
    findings.replace("other", [NO_ROUTE])
    findings.replace("host", [])
    assert findings.all() == [NO_ROUTE]
    findings.replace("other", [])
    assert findings.all() == []
    assert len(caplog.messages) == 2


def test_a_finding_whose_text_changes_is_the_same_one(findings: Findings, caplog: pytest.LogCaptureFixture) -> None:
    for most in (100, 200):
        findings.replace("host", [Finding(HostCode.MEMORY_LIMIT, "", f"it may take {most} MiB", "take less")])
    [shown] = findings.show()
    assert (shown["problem"], shown["since"]) == ("it may take 200 MiB", "time 0")
    assert len(caplog.messages) == 1


def test_two_mirrors_have_findings_of_their_own() -> None:
    other = PathCode.NO_ROUTE_TO_MIRROR.found(name="m", address="10.20.0.13", service="web")
    assert (NO_ROUTE.subject, other.subject) == ("of/m", "web/m")


def test_failures_come_first_and_only_those_of_production_make_the_host_unfit(findings: Findings) -> None:
    findings.replace("host", [HostCode.NO_RPFILTER_MATCH.found(), NO_ROUTE])
    assert findings.why_unfit() == ""
    assert [one["severity"] for one in findings.show()] == [Severity.FAILURE, Severity.WARNING]
    findings.replace("forwarding", [HostCode.NO_FORWARDING.found(interfaces="sw0", settings="net.ipv4.ip_forward=1")])
    assert findings.why_unfit().startswith("no-forwarding: this host does not forward packets")
    assert [one["code"] for one in findings.show()] == ["no-forwarding", "no-route-to-mirror", "no-rpfilter-match"]
    assert [one["makes_unfit"] for one in findings.show()] == [True, False, False]
    assert_declared(list[FindingEntry], findings.show())


def test_what_may_lie_beyond_this_host_makes_it_unfit_only_while_the_host_is_blamed(findings: Findings) -> None:
    findings.replace("services", [PathCode.SERVICE_SILENT.found(service="of", client="10.10.0.11", host="10.20.0.11")])
    findings.blame(frozenset({"web"}))
    assert findings.why_unfit() == ""
    assert [(one["severity"], one["makes_unfit"]) for one in findings.show()] == [(Severity.FAILURE, False)]
    findings.blame(frozenset({"of"}))
    assert findings.why_unfit().startswith(
        "service-silent: no backend of service of acknowledges anything that its clients"
    )
    assert findings.show()[0]["makes_unfit"]


def test_what_has_been_repaired_comes_after_what_lasts(findings: Findings) -> None:
    repaired = OwnCode.RULES_REPAIRED.found(name="table mangle", program="nft", difference="a rule is missing")
    lasting = PathCode.ALL_DRAINED.found(pool="of", fate="are dropped", name="c1")
    findings.replace("keeper", [repaired])
    findings.replace("host", [lasting, NO_ROUTE])
    assert findings.all() == [NO_ROUTE, lasting, repaired]


def codes(*found: Finding) -> list[str]:
    findings = Findings()
    findings.replace("host", found)
    return [str(one.code) for one in findings.all()]


NO_FORWARDING = HostCode.NO_FORWARDING.found(interfaces="sw0", settings="net.ipv4.ip_forward=1")
CUT = PathCode.PRODUCTION_CUT.found(service="of", why="sw0 forwards nothing", mend="run: sysctl")


def silent(service: str) -> Finding:
    return PathCode.SERVICE_SILENT.found(service=service, client="10.10.0.11", host="10.20.0.11")


def test_what_follows_from_a_cause_is_not_shown() -> None:
    assert codes(silent("of"), CUT, NO_FORWARDING) == ["no-forwarding"]
    assert codes(silent("of"), CUT) == ["production-cut"]
    assert codes(silent("web"), CUT) == ["service-silent", "production-cut"], "another service"
    mirror = {"service": "of", "address": "10.20.0.13"}
    mirrors = [PathCode.MIRROR_SILENT.found(name=name, **mirror, host="10.20.0.13", count=9) for name in ("m", "n")]
    assert codes(NO_ROUTE, *mirrors) == ["no-route-to-mirror", "mirror-silent"], "n is silent for another reason"


def test_a_warning_that_a_failures_remedy_mends_too_is_not_shown() -> None:
    down = PathCode.LINK_DOWN.found(interface="sw0", hosts="clients")
    cut = PathCode.PRODUCTION_CUT.found(service="of", why="the interface sw0 is down", mend=down.mend)
    assert codes(cut, down) == ["production-cut"]
    assert codes(CUT, down) == ["production-cut", "link-down"]
    other = PathCode.PRODUCTION_CUT.found(service="web", why="the interface sw0 is down", mend=down.mend)
    assert codes(cut, other) == ["production-cut"] * 2, "two services"


def test_a_consequence_begins_in_the_log_once_its_cause_has_gone_and_ends_when_it_is_over(
    findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    findings.replace("host", [NO_FORWARDING])
    findings.replace("services", [silent("of")])
    assert [one.partition(":")[0] for one in caplog.messages] == ["no-forwarding"]
    findings.replace("host", [])
    assert [one.partition(":")[0] for one in caplog.messages[1:]] == ["service-silent", "no-forwarding"]
    findings.replace("host", [NO_FORWARDING])
    assert [one["code"] for one in findings.show()] == ["no-forwarding"]
    findings.replace("services", [])
    assert caplog.messages[-1].startswith("service-silent: no longer so")
    assert findings.subjects([PathCode.SERVICE_SILENT]) == set()


def test_a_consequence_hides_no_failure_that_makes_the_host_unfit(findings: Findings) -> None:
    findings.replace("services", [silent("of")])
    findings.blame(frozenset({"of"}))
    for cause in (CUT, NO_FORWARDING):
        findings.replace("host", [cause])
        assert findings.why_unfit().startswith(cause.code)
        assert findings.subjects([PathCode.SERVICE_SILENT]) == {"of"}


@pytest.mark.parametrize("follows", [consequences._FOLLOWS, consequences._FOLLOWS_FOR_SAME])
def test_a_cause_is_at_least_as_bad_as_what_follows_from_it(
    follows: Mapping[FindingCode, frozenset[FindingCode]],
) -> None:
    for cause, some in follows.items():
        for one in some:
            assert one.severity is Severity.WARNING or cause.severity is Severity.FAILURE
            assert one.affects is cause.affects
