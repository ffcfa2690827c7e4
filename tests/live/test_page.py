"""The status page in a browser, with real traffic behind it: numbers move, and a failure is shown within seconds."""

import re

import pytest

from natmirror.lab.process import wait_for
from tests.helpers.browser import PHONE, Browser
from tests.live.scene import RULES, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

CHECK = "balance: maglev\n      health: {check: tcp, interval: 1s, fall: 1}"
TIMEOUT = 30.0


def told(selector: str, text: str) -> str:
    """Return an expression: whether an element shows a text."""
    return f"document.querySelector({selector!r}).innerText.includes({text!r})"


def states(browser: Browser) -> list[str]:
    """Return the states of backends and mirrors, as the tables show them."""
    found = browser.value("[...document.querySelectorAll('td.state')].map((one) => one.innerText)")
    return [str(one).strip() for one in found]


def test_the_page_tells_the_truth_about_now(scene: Scene) -> None:
    programs = scene.record("c1", "c2", "m")
    rules = re.sub("balance: maglev.*", CHECK, RULES.read_text())
    scene.balance(scene.rules(f"api: 127.0.0.1:9654\nmetrics: 127.0.0.1:9653\n{rules}"))
    until = scene.file("until")
    client, _ = scene.client(connections=8, until=until, size=500)
    with Browser(scene.lab.directory, ["ip", "netns", "exec", scene.lab.ns("lb")]) as browser:
        browser.open("http://127.0.0.1:9654/")
        browser.wait_for(f"{told('#condition', 'OK')} && {told('#backends', 'openflow/c2')}", "the condition", TIMEOUT)
        ledger = browser.text("#ledger")
        browser.wait_for(f"!{told('#ledger', ledger)}", "numbers to move", TIMEOUT)
        browser.wait_for(told("#mirrors", "8/8"), "a copy of each connection", TIMEOUT)
        assert browser.violations() == []
        programs["c1"].end()
        browser.wait_for(told("#problems", "backend openflow/c1 (10.20.0.11:6653) is down"), "the problem", TIMEOUT)
        browser.wait_for(told("#condition", "DEGRADED: 1 problem"), "no other problem", TIMEOUT)
        assert "see whether its program runs" in browser.text("#problems .mends")
        wait_for(lambda: states(browser) == ["down", "up", "up"], "no other trouble in the tables")
        assert "c1 down" in str(browser.value("document.querySelector('#map svg').textContent")).replace("\u2002", " ")
        browser.wait_for(told("#events", "backend-down"), "the event", TIMEOUT)
        scene.lose("m", 100)
        browser.wait_for(told("#mirrors", "behind"), "the lag of a silent mirror", TIMEOUT)
        assert "master (10.20.0.13:6653)" in browser.text("#problems")
        browser.prefer(prefers_color_scheme="dark")
        assert browser.violations() == []
        browser.resize(*PHONE)
        browser.wait_for("innerWidth < 400 && document.querySelector('#map svg').clientWidth < 360", "the narrow page")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert browser.violations() == []
        assert browser.complaints == []
    until.touch()
    scene.finish(client)
