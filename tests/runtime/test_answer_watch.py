"""Backends and mirrors that do not answer, and packets that the kernel cuts, seen by the counters."""

from typing import Any

from natmirror.linux.counters import QueueCounter
from natmirror.runtime.answer_watch import AnswerWatch

CUT = QueueCounter.PACKETS_CUT


class Counters:
    """The counters of one backend and one mirror, and a watch that looks at them every two seconds."""

    def __init__(self) -> None:
        self._watch = AnswerWatch()
        self._now = 0.0
        self.cut = 0
        name = {"service": "of", "address": "10.20.0.9:6653"}
        self.backend: dict[str, Any] = {**name, "name": "c1", "removed": False}
        self.backend |= {"connections": 5, "refused_syns": 0, "unanswered_syns": 9}
        self.mirror: dict[str, Any] = {**name, "name": "m", "legs": 1}
        self.mirror |= {"acked_bytes": 10, "consumed_bytes": 0, "retransmits": 50}

    def look(self) -> list[str]:
        sums: Any = {"backends": [self.backend], "mirrors": [self.mirror]}
        self._now += 2.0
        return [str(one) for one in self._watch.look(sums, {"6653": {CUT: self.cut}}, self._now)]


def test_what_happened_before_the_watch_began_is_no_finding() -> None:
    one = Counters()
    assert one.look() == one.look() == []


def test_a_backend_is_silent_from_its_second_unanswered_syn_until_it_answers() -> None:
    one = Counters()
    one.look()
    one.backend["unanswered_syns"] += 1
    assert one.look() == []
    one.backend["unanswered_syns"] += 1
    [text] = one.look()
    assert text.startswith("backend-silent: c1 (10.20.0.9:6653) of service of has answered none of the last 2 SYNs")
    assert "ip route get CLIENT" in text
    one.backend["refused_syns"] += 1
    assert one.look() == []
    one.backend["unanswered_syns"] += 2
    assert len(one.look()) == 1
    one.backend["removed"] = True
    assert one.look() == []


def test_a_mirror_is_silent_while_its_legs_send_in_vain() -> None:
    one = Counters()
    one.look()
    one.mirror["retransmits"] += 2
    [text] = one.look()
    assert text.startswith(
        "mirror-silent: mirror m (10.20.0.9:6653) of service of answers nothing: 2 packets were sent"
    )
    assert len(one.look()) == 1
    one.mirror["legs"] = 0
    assert one.look() == []
    one.mirror["legs"] = 1
    one.mirror["acked_bytes"] += 1
    assert one.look() == []


def test_a_mirror_that_loses_packets_is_not_silent() -> None:
    one = Counters()
    for _ in range(5):
        assert one.look() == []
        one.mirror["retransmits"] += 5
        one.mirror["acked_bytes"] += 1


def test_packets_that_the_kernel_cuts_are_a_finding_for_half_a_minute() -> None:
    one = Counters()
    assert one.look() == []
    one.cut = 1
    assert [one.look()[0].partition(":")[0] for _ in range(15)] == ["big-tcp"] * 15
    assert one.look() == []
