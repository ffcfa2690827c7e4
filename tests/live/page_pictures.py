"""Takes the pictures of the status page for docs/page.md: ``python -m tests.live.page_pictures DIRECTORY`` (root, two
minutes).

Two switches with a pool of three controllers, a candidate for the next one that forgets to answer ARP requests, and an
archive of raw bytes; beside them a second service. Then a controller ends, and the archive falls silent.
"""

import sys
import time
from pathlib import Path

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import SERVICE, Lab
from tests.helpers.browser import DESKTOP, PHONE, Browser
from tests.live.scene import Scene
from tests.live.verdict.traffic import PORTS, Traffic

PAGE = "http://127.0.0.1:9654/"
TELEMETRY = 6640
HOSTS = {"c3": 14, "archive": 21, "t1": 31, "t2": 32}
RULES = """\
switches: [10.10.0.0/24]
api: 127.0.0.1:9654
metrics: 127.0.0.1:9653
known-switches: DIRECTORY/known.json
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      health: {check: tcp, interval: 1s, fall: 2}
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
        - {name: c3, address: 10.20.0.14}
    mirrors:
      - {name: candidate, address: 10.20.0.13, protocol: openflow, verdict: on, warm-up: 0s}
  - name: telemetry
    address: 10.10.0.100
    port: 6640
    pool:
      health: {check: tcp, interval: 1s}
      backends: [{name: t1, address: 10.20.0.31}, {name: t2, address: 10.20.0.32}]
    mirrors:
      - {name: archive, address: 10.20.0.21}
"""
SECONDS = 75.0  # of traffic, so that the charts have something to show
PHONE_HEIGHT = 1300


def main(directory: Path) -> None:
    """Take the pictures."""
    with Lab(switches=2) as lab:
        for host, last in HOSTS.items():
            lab.add_controller(host, last)
        scene = Scene(lab)
        controllers = {host: start_controller(scene, host) for host in ("c1", "c2", "c3")}
        start_controller(scene, "m", "noarp")
        for host in ("t1", "t2", "archive"):
            scene.app(host, "recorder", TELEMETRY, scene.file(f"{host}.jsonl"))
        for host, port in (("c1", 6653), ("c2", 6653), ("c3", 6653), ("m", 6653), ("t1", TELEMETRY), ("t2", TELEMETRY)):
            wait_listen(lab.ns(host), port, 30.0)
        rules = scene.rules(RULES.replace("DIRECTORY", str(lab.directory)))
        LoadBalancer(lab, rules)
        switches = [OpenVSwitch(lab, number, ports=PORTS) for number in (1, 2)]
        traffic = Traffic(lab, switches, rate=20.0)
        for switch in switches:
            switch.connect(f"tcp:{SERVICE}:6653")
        traffic.start()
        until = scene.file("until")
        for number, size in enumerate((900, 2500, 6000)):
            options = ("--connections", 6, "--until", until, "--size", size, "--pause", 0.05 + 0.03 * number, "--vary")
            sources = ("--sources", f"10.10.0.{11 if number % 2 else 12}")
            scene.app(
                "s1" if number % 2 else "s2", "client", SERVICE, TELEMETRY, scene.file("client"), *options, *sources
            )
        with Browser(lab.directory, ["ip", "netns", "exec", lab.ns("lb")]) as browser:
            browser.open(PAGE)
            time.sleep(SECONDS)
            browser.prefer(prefers_color_scheme="dark")
            save(browser, directory / "page-dark.png")
            browser.prefer(prefers_color_scheme="light")
            controllers["c3"].end()
            scene.lose("archive", 100)
            browser.wait_for("document.querySelector('#problems').children.length >= 2", "the problems", 40.0)
            save(browser, directory / "page-desktop.png")
            browser.resize(PHONE[0], PHONE_HEIGHT, 1.5)
            time.sleep(1.5)
            (directory / "page-phone.png").write_bytes(browser.picture())
            scene.heal()
        traffic.stop()


def start_controller(scene: Scene, host: str, variant: str = "same") -> Program:
    """Start a learning switch's controller, a correct one or another variant."""
    words = (sys.executable, "-m", "tests.live.verdict.controller", "1.3", "6653", variant)
    return scene.start(host, *words, name=variant)


def save(browser: Browser, path: Path) -> None:
    """Write a picture of the whole page."""
    browser.resize(*DESKTOP)
    time.sleep(1.5)
    path.write_bytes(browser.picture(whole=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
