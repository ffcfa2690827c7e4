"""HAProxy balances the service on this host; natmirror only mirrors it: running, frozen and killed."""

import signal

import pytest

from natmirror.lab.process import wait_for, wait_listen
from tests.live.haproxy import HAPROXY, WATCHED_RULES
from tests.live.scene import PORT, Scene, assert_all_well

pytestmark = pytest.mark.live


def test_haproxys_clients_are_served_with_natmirror_running_frozen_and_killed(scene: Scene, iptables: str) -> None:
    scene.record("c1", "m")
    config = scene.file("haproxy.cfg")
    config.write_text(HAPROXY)
    scene.start("lb", "haproxy", "-db", "-f", str(config), name="haproxy")
    wait_listen(scene.lab.ns("lb"), PORT)
    balancer = scene.balance(scene.rules(WATCHED_RULES), iptables=iptables)
    until = scene.file("until")
    lasting, lasting_records = scene.client(until=until, size=100, seed=3)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 1, "the lasting connection")

    sent = assert_all_well(scene.run_client(connections=20, requests=5, seed=1), 20)
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 20}, "the legs to end")
    assert scene.at_master() == sent

    balancer.program.send_signal(signal.SIGSTOP)
    assert_all_well(scene.run_client(connections=20, requests=5, seed=2), 20)
    balancer.program.send_signal(signal.SIGCONT)
    again = assert_all_well(scene.run_client(connections=20, requests=5, seed=4), 20)
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["legs_ended"].get("closed", 0) >= 40, "the legs to end"
    )
    assert again.items() <= scene.at_master().items(), "awake again, it mirrors again"

    balancer.kill()
    assert_all_well(scene.run_client(connections=20, requests=5, seed=5), 20)
    until.touch()
    scene.finish(lasting)
    assert_all_well(lasting_records, 1)
    wait_for(lambda: scene.traces()["queues"] == "", "the processes that pass its packets to end too")
    scene.balance(scene.rules(WATCHED_RULES), iptables=iptables)
