"""A backend that is drained while connections run."""

from typing import Any

import pytest

from natmirror.api.client import send_command
from tests.live.scene import SOON_FORGOTTEN, Scene, assert_all_well

pytestmark = pytest.mark.live

CONNECTIONS = 200


def test_a_drained_backend_keeps_its_connections_and_gets_no_new_ones(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(
        SOON_FORGOTTEN
        + "switches: [10.10.0.0/24]\nservices:\n  - name: openflow\n    address: 10.10.0.100\n    port: 6653\n"
        "    pool:\n      hash: address-port\n      backends:\n"
        "        - {name: c1, address: 10.20.0.11}\n        - {name: c2, address: 10.20.0.12}\n"
    )
    balancer = scene.balance(rules)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=CONNECTIONS, until=until, started=started, size=200)
    balancer.wait_for_status(lambda status: status["flows"] and len(status["flows"]) == CONNECTIONS, "all connections")
    before = flows(balancer.status())
    assert min(before.values()) > 0
    drained = send_command("drain", {"service": "openflow", "backend": "c1"}, balancer.api)["done"]
    stay = f"connections left: {before['c1']} (they stay until they end)"
    assert drained == f"openflow/c1 gets no new connections; {stay}; new ones go to c2"
    balancer.wait_for_status(lambda status: state(status, "c1") == "draining", "the drain")
    later = assert_all_well(scene.run_client(connections=20, requests=5, seed=7), 20)
    now = flows(balancer.status())
    assert now["c1"] == before["c1"], "none is cut, and none comes"
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, CONNECTIONS)
    assert scene.at_backends() == sent | later
    balancer.wait_for_status(lambda status: flows(status)["c1"] == 0, "c1 to be empty", 30.0)
    send_command("undrain", {"service": "openflow", "backend": "c1"}, balancer.api)
    balancer.wait_for_status(lambda status: state(status, "c1") == "unchecked", "c1 to take connections again")


def flows(status: dict[str, Any]) -> dict[str, int]:
    return {backend["name"]: backend["flows"] for backend in status["backends"]}


def state(status: dict[str, Any], name: str) -> object:
    return next(backend["state"] for backend in status["backends"] if backend["name"] == name)


def test_the_sorry_server_answers_with_the_services_address(scene: Scene) -> None:
    scene.record("c1", "c2")
    balancer = scene.balance(
        scene.rules(
            "switches: [10.10.0.0/24]\nservices:\n  - name: openflow\n    address: 10.10.0.100\n    port: 6653\n"
            "    pool:\n      sorry: {name: c2, address: 10.20.0.12}\n"
            "      backends: [{name: c1, address: 10.20.0.11}]\n"
        )
    )
    drained = send_command("drain", {"service": "openflow", "backend": "c1"}, balancer.api)["done"]
    assert drained.endswith("it was the last open backend of openflow: new ones go to the sorry server c2")
    balancer.program.wait_for_text("all-drained: the operator has drained all backends of service openflow")
    balancer.wait_for_status(lambda status: state(status, "c1") == "draining", "the drain")
    sent = assert_all_well(scene.run_client(connections=5, requests=5), 5)
    assert scene.recorders["c2"].by_port() == sent
