"""A mirror's program that restarts under open connections, for which a reload sets ``reconnect: next-segment``."""

import hashlib
import random
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from natmirror.api.client import send_command
from tests.helpers.support import assert_adds_up
from tests.live.apps.wire import LENGTH
from tests.live.scene import RULES, THREADS, Scene, assert_all_well

pytestmark = pytest.mark.live

COUNT, SIZE, SEED = 100, 600, 3


def mirror_of(status: dict[str, Any]) -> dict[str, Any]:
    mirror: dict[str, Any] = status["mirrors"][0]
    return mirror


def messages(number: int) -> Iterator[bytes]:
    """Yield the messages of a client's connection."""
    source = random.Random(SEED * 100_003 + number)
    while True:
        yield LENGTH.pack(SIZE) + source.randbytes(SIZE)


def stream_of(number: int, count: int) -> bytes:
    """Return the first ``count`` bytes of a client's connection."""
    return b"".join(islice(messages(number), count // (LENGTH.size + SIZE)))


def test_all_connections_are_copied_again_after_the_mirrors_program_has_restarted(scene: Scene) -> None:
    scene.record("c1", "c2")
    program = scene.record("m")["m"]
    rules_file = scene.with_threads(RULES, int(THREADS or 2))
    balancer = scene.balance(rules_file)
    until = scene.file("until")
    client, records = scene.client(connections=COUNT, until=until, size=SIZE, seed=SEED)
    balancer.wait_for_status(lambda status: mirror_of(status)["legs"] == COUNT, "all legs")
    program.send_signal(signal.SIGKILL)
    balancer.wait_for_status(
        lambda status: mirror_of(status)["connections_not_copied"] == {"mirror-reset": COUNT}, "all legs to end"
    )
    rules_file.write_text(rules_file.read_text().replace("10.20.0.13}", "10.20.0.13, reconnect: next-segment}"))
    send_command("reload", {}, balancer.api)
    balancer.wait_for_status(
        lambda status: mirror_of(status)["connections_not_copied"] == {"reconnecting": COUNT}, "all copies to wait"
    )
    assert_adds_up(balancer.status())
    scene.record("m")
    balancer.wait_for_status(
        lambda status: mirror_of(status)["legs"] == COUNT and not mirror_of(status)["connections_not_copied"],
        "all connections to be copied again",
        40.0,
    )
    lost = mirror_of(balancer.status())["lost_bytes"]
    # A probe's message is lost as refused if its backend acknowledges it before the mirror's host refuses the leg.
    assert lost["reconnecting"] > 0 and lost.keys() <= {"reconnecting", "mirror-reset", "refused"}
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, COUNT)
    balancer.wait_for_status(lambda status: mirror_of(status)["legs_ended"].get("closed") == COUNT, "the legs to close")
    assert scene.at_backends() == sent
    mirror = mirror_of(balancer.status())
    assert_adds_up(balancer.status())
    assert mirror["lost_bytes"] == lost, "nothing more is lost"
    assert mirror["client_bytes"] == sum(count for count, _ in sent.values())
    again = scene.at_master()
    assert again.keys() == sent.keys()
    for number, line in enumerate(records.lines()):
        stream = stream_of(number, line["bytes"])
        assert hashlib.sha256(stream).hexdigest() == line["sha256"]
        count, digest = again[line["port"]]
        assert 0 < count < len(stream)
        assert hashlib.sha256(stream[-count:]).hexdigest() == digest, "the mirror has the end of the client's stream"
