"""The status page in a browser, in front of a natmirror that exists only in this test: hostile, huge, silent."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from natmirror.api import text
from natmirror.api.times import show
from natmirror.openflow.comparison.numbers import share
from natmirror.reasons import NOT_LOST
from natmirror.rules import parse_rules
from tests.helpers.api import served
from tests.helpers.browser import DESKTOP, PHONE, Browser
from tests.helpers.status import BACKEND, status_document
from tests.helpers.support import RULES

HOSTILE = "<img src=x onerror=alert(1)>\"'&<script>alert(2)</script>"


class Natmirror:
    """What the page asks. ``status`` is what it shows now."""

    def __init__(self, address: str) -> None:
        self.page = f"http://{address}/"
        self.status = healthy()
        self.events: list[dict[str, Any]] = []
        self.asked = 0
        self.answers = Event()
        self.answers.set()

    def get_status(self) -> dict[str, Any]:
        self.asked += 1
        assert self.answers.wait(60.0)
        return {**self.status, "at": show(1_800_000_000 + self.asked)}


def healthy() -> dict[str, Any]:
    status: dict[str, Any] = json.loads(json.dumps(status_document()))
    status["condition"] = {"state": "ok", "unfit_because": "", "problems": []}
    status["backends"] = [{**BACKEND, "state": "up", "reason": ""}]
    return status


def problem(**changes: Any) -> dict[str, Any]:
    one = {"code": "no-forwarding", "severity": "failure", "affects": "production", "subject": "", "since": None}
    return {
        **one,
        "problem": "no packet passes",
        "mend": "run: sysctl -w a=1\nor restart it",
        "mended": False,
        **changes,
    }


@pytest.fixture
def natmirror(tmp_path: Path) -> Iterator[Natmirror]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = Natmirror(f"127.0.0.1:{port}")
    resources = {"status": one.get_status, "events": lambda: one.events, "verdict": lambda: []}
    rules = f"api: 127.0.0.1:{port}\n{RULES}"
    parse_rules(rules)
    with served(tmp_path / "api.sock", resources, rules=rules):
        yield one
        one.answers.set()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture(autouse=True)
def no_complaints(browser: Browser, natmirror: Natmirror) -> Iterator[None]:
    yield
    found = [*browser.complaints]
    browser.open("about:blank")
    browser.resize(*DESKTOP)
    browser.complaints.clear()
    assert found == []


def open_page(browser: Browser, natmirror: Natmirror, condition: str) -> None:
    browser.open(natmirror.page)
    browser.wait_for(f"document.querySelector('#condition').innerText.startsWith('{condition}')", "an answer")


def test_no_text_of_rules_or_host_becomes_markup(browser: Browser, natmirror: Natmirror) -> None:
    status = natmirror.status
    status["backends"] = [{**BACKEND, "name": HOSTILE, "service": HOSTILE, "reason": HOSTILE, "state": "down"}]
    status["mirrors"] = [{**status["mirrors"][0], "name": HOSTILE, "reason": HOSTILE, "lost_bytes": {HOSTILE: 1}}]
    status["condition"] = {
        "state": "degraded",
        "unfit_because": "",
        "problems": [problem(problem=HOSTILE, mend=HOSTILE)],
    }
    status["rules"] = HOSTILE
    natmirror.events = [
        {**dict.fromkeys(("service", "backend", "mirror", "code")), "number": 1, "time": status["at"], "kind": HOSTILE}
        | {"severity": "error", "text": HOSTILE, "count": 2}
    ]
    open_page(browser, natmirror, "DEGRADED: 1 problem")
    browser.wait_for(f"document.querySelector('#events').innerText.includes({HOSTILE!r})", "the event")
    for place in ("problems", "backends", "mirrors", "ledger", "more"):
        assert HOSTILE in browser.text(f"#{place}"), place
    assert browser.value("document.querySelectorAll('main img, body script').length") == 0
    assert browser.violations() == []


@pytest.mark.parametrize("width", [1440, 981, 700, PHONE[0]])
def test_long_lists_fit_any_screen(browser: Browser, natmirror: Natmirror, width: int) -> None:
    status, mirror = natmirror.status, natmirror.status["mirrors"][0]
    states = ["up", "draining", "down", "up", "panic"]
    status["backends"] = [
        {
            **BACKEND,
            "service": f"s{'ervice' * 8}-{number % 16}",
            "name": f"{'n' * 50}-{number}",
            "state": states[number % 5],
        }
        for number in range(100)
    ]
    status["mirrors"] = [
        {**mirror, "service": f"s{'ervice' * 8}-{number % 16}", "name": f"m-{number}"} for number in range(18)
    ]
    browser.resize(width, 800)
    open_page(browser, natmirror, "OK")
    browser.wait_for("document.querySelectorAll('#map .box').length > 16", "the picture")
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    button = "document.querySelector('#backends button')"
    assert "show all 100 (not shown: " in browser.text("#backends button")
    browser.value(f"{button}.click()")
    assert browser.value("document.querySelectorAll('#backends tbody tr').length") == 100
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")


def test_a_natmirror_without_pools_and_mirrors(browser: Browser, natmirror: Natmirror) -> None:
    natmirror.status["backends"] = natmirror.status["mirrors"] = []
    open_page(browser, natmirror, "OK")
    assert "Without a mirror, nothing is copied." in browser.text("#ledger")
    assert browser.violations() == []


def test_a_silent_natmirror_is_told_in_big_letters(browser: Browser, natmirror: Natmirror) -> None:
    open_page(browser, natmirror, "OK")
    natmirror.answers.clear()
    browser.wait_for("document.querySelector('#condition').innerText === 'NO ANSWER'", "the silence")
    assert re.search(r"does not answer.* was true at \d\d:\d\d:\d\dZ", browser.text("#silence"))
    assert browser.value("document.title").startswith("NO ANSWER")
    assert browser.value("document.body.dataset.old") == "yes"
    assert browser.violations() == []
    natmirror.answers.set()
    browser.wait_for("document.querySelector('#condition').innerText === 'OK'", "the answer")
    assert browser.value("document.querySelector('#silence').hidden && document.body.dataset.old === 'no'")


def test_another_version_brings_its_own_page_once(browser: Browser, natmirror: Natmirror) -> None:
    open_page(browser, natmirror, "OK")
    browser.value("window.isFirst = true")
    natmirror.status["version"] = "9.9"
    browser.wait_for("!window.isFirst && document.querySelector('#facts')?.innerText.includes('9.9')", "a new page")
    browser.value("window.isFirst = true")
    natmirror.status["version"] = "9.8"
    browser.wait_for("document.querySelector('#facts').innerText.includes('9.8')", "the other version")
    assert browser.value("window.isFirst"), "two versions that take turns end in no loop"


def test_a_hidden_tab_asks_nothing(browser: Browser, natmirror: Natmirror) -> None:
    open_page(browser, natmirror, "OK")
    browser.hide(hidden=True)
    asked = natmirror.asked
    browser.value("new Promise((resume) => setTimeout(resume, 1500))")
    assert natmirror.asked <= asked + 1, "one question may have been under way"
    browser.hide(hidden=False)
    browser.wait_for("document.querySelector('#age').innerText.startsWith('as of')", "an answer")
    assert natmirror.asked > asked


def test_all_can_be_done_by_keyboard(browser: Browser, natmirror: Natmirror) -> None:
    natmirror.status["condition"] = {"state": "degraded", "unfit_because": "", "problems": [problem()]}
    open_page(browser, natmirror, "DEGRADED")
    browser.value("document.activeElement.blur()")
    walked = []
    for _ in range(4):
        browser.press("Tab", 9)
        walked.append(browser.value("document.activeElement.id || document.activeElement.className"))
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid", walked
    assert walked == ["skip", "theme", "copy", "events"]
    theme = "document.documentElement.dataset.theme"
    browser.value("document.querySelector('#theme').focus()")
    for expected in ("light", "dark", "system"):
        browser.press("Enter", 13)
        assert browser.value(theme) == expected
    assert browser.text(".problem .command") == "sysctl -w a=1"


def test_numbers_are_written_as_in_the_terminal(browser: Browser, natmirror: Natmirror) -> None:
    open_page(browser, natmirror, "OK")
    counts = [0, 9, 10_239, 10_240, 123_456, 10 << 20, 5 << 30, 20 << 30]
    times = [0.0, 0.04, 9.94, 10.0, 59.4, 60.0, 3599.0, 3600.0, 86_400.0, 1e6]
    shares = [(0, 5), (5, 5), (1, 3), (9999, 10_000), (99_999, 100_000), (1, 1_000_000)]
    found = browser.value(
        "import('/page/format.js').then((format) => ({"
        f"size: {counts}.map(format.size), age: {times}.map(format.age), duration: {times}.map(format.duration),"
        f"share: {json.dumps(shares)}.map(([part, of]) => format.share(part, of))}}))"
    )
    assert found["size"] == [text.size(one) for one in counts]
    assert found["age"] == [text.age(one) for one in times]
    assert found["duration"] == [text.duration(one) for one in times]
    assert found["share"] == [share(*one) for one in shares]
    reasons = browser.value("import('/page/sums.js').then((sums) => sums.NOT_LOST)")
    assert sorted(reasons) == sorted(NOT_LOST)
