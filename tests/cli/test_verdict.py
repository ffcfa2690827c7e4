"""The command verdict: its exit codes, its output, its files, and how it waits."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import dpkt
import pytest
from click.testing import CliRunner, Result

from natmirror.cli import exit_codes
from natmirror.cli.commands import main
from natmirror.cli.evidence import MIRROR, PRODUCTION, pcap_of
from natmirror.openflow.messages import V10, V13, V14, V15
from tests.helpers.api import served
from tests.helpers.compared import MISSING, ComparingEngine, answer, differs
from tests.helpers.verdicts import CLIENT, evidence, messages, verdict_answer

Serve = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Callable[[Callable[[dict[str, Any]], list[Any]]], list[dict[str, Any]]]]:
    """A function that has the API show verdicts; it returns the list of the arguments of requests."""
    open_ones = []

    def begin(show: Callable[[dict[str, Any]], list[Any]]) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def verdict(arguments: dict[str, Any]) -> Iterator[list[Any]]:
            asked.append(arguments)
            return iter([[([number], one)] for number, one in enumerate(show(arguments), 1)])

        one = served(path, {}, lists={"verdict": verdict})
        one.__enter__()
        open_ones.append(one)
        return asked

    yield begin
    for one in open_ones:
        one.__exit__(None, None, None)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["verdict", *map(str, words)], catch_exceptions=False)


def of(word: str) -> dict[str, Any]:
    """Return a verdict with this word."""
    return {**verdict_answer(), "verdict": word}


@pytest.mark.parametrize(("word", "code"), [("agrees", 0), ("differs", 1), ("too-little", 3)])
def test_the_exit_code_is_the_verdict(serve: Any, path: Path, word: str, code: int) -> None:
    asked = serve(lambda _: [of(word)])
    result = run("openflow/candidate", "--api", path)
    assert result.exit_code == code
    assert result.output.startswith(word.replace("-", " ").upper())
    assert asked == [{"service": "openflow", "mirror": "candidate"}]


def test_of_several_the_worst_one_counts(serve: Any, path: Path) -> None:
    serve(lambda _: [of("agrees"), of("differs"), of("too-little")])
    assert run("--api", path).exit_code == exit_codes.DIFFERS
    assert len(json.loads(run("--api", path, "--json").output)) == 3


def test_it_does_not_wait_for_the_others_once_one_differs(serve: Any, path: Path) -> None:
    asked = serve(lambda _: [of("differs"), of("too-little")])
    assert run("--wait", "10m", "--api", path).exit_code == exit_codes.DIFFERS
    assert len(asked) == 1


def test_a_twin_that_differs_is_shown_and_does_not_decide(serve: Any, path: Path) -> None:
    serve(lambda asked: [*([] if asked else [of("agrees")]), {**of("differs"), "is_twin": True}])
    result = run("--api", path)
    assert result.exit_code == exit_codes.AGREES
    assert "DIFFERS" in result.output
    assert run("openflow/same", "--api", path).exit_code == exit_codes.DIFFERS


def test_json_of_one_mirror_is_its_object(serve: Any, path: Path) -> None:
    serve(lambda _: [of("agrees")])
    assert json.loads(run("openflow/candidate", "--json", "--api", path).output)["mirror"] == "candidate"


def test_without_natmirror_the_code_is_its_own(path: Path) -> None:
    result = run("openflow/candidate", "--api", path)
    assert result.exit_code == exit_codes.NO_ANSWER
    assert "no natmirror answers" in result.output


def test_a_mirror_that_is_not_compared_is_wrong_usage(serve: Any, path: Path) -> None:
    def refuse(_: dict[str, Any]) -> list[Any]:
        raise ValueError("mirror openflow/audit is not compared with production: write verdict: on below it")

    serve(refuse)
    result = run("openflow/audit", "--api", path)
    assert result.exit_code == 2
    assert result.output == (
        "natmirror: mirror openflow/audit is not compared with production: write verdict: on below it\n"
    )


def test_without_any_mirror_the_key_is_named(serve: Any, path: Path) -> None:
    serve(lambda _: [])
    result = run("--api", path)
    assert result.exit_code == 2
    assert "write verdict: on below one in the rules" in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("candidate",), "expected SERVICE/MIRROR, found candidate"),
        (("--since", "yesterday"), "--since: expected a duration such as 90s"),
        (("--wait", "10"), "--wait: expected a duration such as 90s"),
        (("--wait", "9s"), "of at least 20s, since answers are counted in parts of 10 s, found 9s"),
        (("--fail-below", "101"), "101"),
        (("--at-least", "0"), "0"),
    ],
)
def test_a_wrong_command_line_says_what_is_expected(path: Path, words: tuple[str, ...], text: str) -> None:
    result = run(*words, "--api", path)
    assert result.exit_code == 2
    assert text in result.output


def test_options_reach_the_api(serve: Any, path: Path) -> None:
    asked = serve(lambda _: [of("agrees")])
    run("openflow/candidate", "--since", "2026-11-30T03:00", "--at-least", "500", "--fail-below", "99.9", "--api", path)
    assert asked[0] == {
        **{"service": "openflow", "mirror": "candidate", "since": "2026-11-30T03:00:00.000+00:00"},
        **{"at_least": 500, "fail_below": 99.9},
    }


def test_it_waits_until_the_verdict_is_certain(serve: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    left = [of("too-little"), of("too-little"), of("agrees")]
    asked = serve(lambda _: [left.pop(0)])
    assert run("openflow/candidate", "--wait", "10m", "--api", path).exit_code == 0
    assert len(pauses) == 2
    assert len({one["since"] for one in asked}) == 1, "only what is compared from now on counts"


def test_an_interrupted_wait_is_no_verdict(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("natmirror.api.client.ask_list", interrupt)
    assert run("openflow/candidate", "--wait", "10m", "--api", path).exit_code == 130


def test_it_waits_no_longer_than_it_may(serve: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.cli.verdict._SHORTEST_WAIT", 0)
    serve(lambda _: [of("too-little")])
    assert run("openflow/candidate", "--wait", "0s", "--api", path).exit_code == exit_codes.TOO_LITTLE


def test_a_report_and_evidence_are_written(serve: Any, path: Path, tmp_path: Path) -> None:
    asked = serve(lambda _: [verdict_answer()])
    report, directory = tmp_path / "verdict.md", tmp_path / "new" / "evidence"
    result = run("openflow/candidate", "--api", path, "--markdown", report, "--pcap", directory)
    assert result.exit_code == exit_codes.DIFFERS
    assert f"evidence of 2 differences in {directory}" in result.output
    assert asked[0]["messages"] is True
    assert report.read_text().startswith("# openflow/candidate: DIFFERS")
    assert sorted(one.name for one in directory.iterdir()) == [
        "01-openflow-candidate-a-rule-is-missing.pcap",
        "04-openflow-candidate-priority-11-for-10.pcap",
    ]


def test_the_code_is_the_verdict_though_no_file_can_be_written(serve: Any, path: Path, tmp_path: Path) -> None:
    serve(lambda _: [verdict_answer()])
    (tmp_path / "file").touch()
    words = ("--markdown", tmp_path / "none" / "verdict.md", "--pcap", tmp_path / "file" / "evidence")
    result = run("openflow/candidate", "--api", path, *words)
    assert result.exit_code == exit_codes.DIFFERS
    assert f"natmirror: {tmp_path}/none/verdict.md: No such file or directory" in result.output
    assert f"natmirror: {tmp_path}/file/evidence: Not a directory" in result.output
    assert "evidence of" not in result.output


def test_masters_of_the_same_name_in_two_services_have_evidence_of_their_own(
    serve: Any, path: Path, tmp_path: Path
) -> None:
    serve(lambda _: [verdict_answer(), {**verdict_answer(), "service": "other"}])
    result = run("--api", path, "--pcap", tmp_path / "evidence")
    assert "evidence of 4 differences" in result.output
    assert len(list((tmp_path / "evidence").iterdir())) == 4


def example(version: int, sent: list[tuple[str, bytes]] | None = None) -> dict[str, Any]:
    """Return an example with messages."""

    def change(engine: ComparingEngine, now: float) -> None:
        kept = evidence(now, messages(version) if sent is None else sent)
        answer(engine.of("candidate").of_switch(CLIENT), differs(MISSING, at=now, evidence=kept))

    found: dict[str, Any] = verdict_answer(change)["differences"][0]["example"]
    return found


def streams(pcap: bytes) -> dict[tuple[bytes, bytes], bytes]:
    """Return the bytes from each address to another one, as TCP has them."""
    found: dict[tuple[bytes, bytes], bytes] = {}
    for _, raw in dpkt.pcap.Reader(BytesIO(pcap)):
        packet = dpkt.ip.IP(raw)
        key = packet.src, packet.dst
        assert packet.data.seq == 1 + len(found.get(key, b""))
        found[key] = found.get(key, b"") + packet.data.data
    return found


@pytest.mark.parametrize("version", [V10, V13, V14, V15])
def test_both_streams_have_the_packet_in_and_one_sides_messages(version: int) -> None:
    switch = socket.inet_aton(CLIENT.partition(":")[0])
    [(_, packet_in), (_, flow_mod), (_, packet_out), _] = messages(version)
    assert streams(pcap_of(example(version))) == {
        (switch, PRODUCTION[0]): packet_in,
        (switch, MIRROR[0]): packet_in,
        (PRODUCTION[0], switch): flow_mod + packet_out,
        (MIRROR[0], switch): packet_out,
    }


def test_a_message_that_was_cut_off_counts_as_not_captured() -> None:
    whole = b"\x04\x0a" + (9000).to_bytes(2) + bytes(8996)
    [record, _] = dpkt.pcap.Reader(BytesIO(pcap_of(example(V13, [("switch", whole)]))))
    assert len(record[1]) == 40 + 2048
    assert dpkt.ip.IP(record[1]).len == 40 + 9000
