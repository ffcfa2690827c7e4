"""A mirror's program that restarts under open connections, with ``reconnect: next-segment``."""

import hashlib
import random
import signal
from typing import Any

import pytest

from tests.helpers.support import assert_adds_up
from tests.live.apps.wire import LENGTH
from tests.live.scene import Scene, assert_all_well, rules

pytestmark = pytest.mark.live

COUNT, SIZE, SEED = 100, 600, 3


def mirror_of(status: dict[str, Any]) -> dict[str, Any]:
    mirror: dict[str, Any] = status["mirrors"][0]
    return mirror


def streams() -> dict[str, bytes]:
    """Return the streams that the clients may send, by the digest of each number of whole messages."""
    found = {}
    for number in range(COUNT):
        source, digest, stream = random.Random(SEED * 100_003 + number), hashlib.sha256(), b""
        for _ in range(2000):
            message = LENGTH.pack(SIZE) + source.randbytes(SIZE)
            digest.update(message)
            stream += message
            found[digest.hexdigest()] = stream
    return found


def test_all_connections_are_copied_again_after_the_mirrors_program_has_restarted(scene: Scene) -> None:
    scene.record("c1", "c2")
    program = scene.record("m")["m"]
    balancer = scene.balance(rules(scene, reconnect="next-segment"))
    until = scene.file("until")
    client, records = scene.client(connections=COUNT, until=until, size=SIZE, seed=SEED)
    balancer.wait_for_status(lambda status: mirror_of(status)["legs"] == COUNT, "all legs")
    program.send_signal(signal.SIGKILL)
    balancer.wait_for_status(
        lambda status: mirror_of(status)["connections_not_copied"] == {"reconnecting": COUNT}, "all legs to end"
    )
    assert_adds_up(balancer.status())
    scene.record("m")
    balancer.wait_for_status(
        lambda status: mirror_of(status)["legs"] == COUNT and not mirror_of(status)["connections_not_copied"],
        "all connections to be copied again",
    )
    lost = mirror_of(balancer.status())["lost_bytes"]
    assert lost["reconnecting"] > 0 and lost.keys() <= {"reconnecting", "mirror-reset"}
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, COUNT)
    balancer.wait_for_status(lambda status: mirror_of(status)["legs_ended"].get("closed") == COUNT, "the legs to close")
    assert scene.at_backends() == sent
    mirror = mirror_of(balancer.status())
    assert_adds_up(balancer.status())
    assert mirror["lost_bytes"] == lost, "nothing more is lost"
    assert mirror["client_bytes"] == sum(count for count, _ in sent.values())
    whole, again = streams(), scene.at_master()
    assert again.keys() == sent.keys()
    for port, (count, digest) in again.items():
        stream = whole[sent[port][1]]
        assert 0 < count < sent[port][0] == len(stream)
        assert hashlib.sha256(stream[-count:]).hexdigest() == digest, "the mirror has the end of the client's stream"
