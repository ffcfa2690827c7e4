"""Two equal controllers give no difference, whatever their timing and the order of their messages."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from natmirror.openflow.comparison.results import AnswerResult, NotComparable
from natmirror.openflow.messages import V10, V13
from tests.helpers.comparison import ARP, IP
from tests.helpers.learning_switch import LearningSwitch, Network

styles: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    cookie=st.integers(0, 3),
    out_first=st.booleans(),
    lag=st.sampled_from([0.0, 0.001, 0.02, 0.2, 0.4]),
    jitter=st.sampled_from([0.0, 0.001, 0.03, 0.2]),
    pause=st.sampled_from([0.0, 0.0005, 0.01, 0.15]),
    is_serial=st.booleans(),
)
kinds: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    idle_timeout=st.sampled_from([0, 1, 5]),
    reports=st.booleans(),
    both_ways=st.booleans(),
    sends=st.sampled_from([True, True, False]),
)
frames = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from([IP, ARP]),
        st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.1, 0.7, 3.0]),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(st.sampled_from([V10, V13]), kinds, styles, styles, frames, st.booleans())
def test_equal_controllers_give_no_difference(
    version: int,
    kind: dict[str, Any],
    production: dict[str, Any],
    mirror: dict[str, Any],
    sent: list[tuple[int, int, int, float]],
    buffered: bool,
) -> None:
    network = Network(
        LearningSwitch(version, **kind, **production), LearningSwitch(version, **kind, **mirror), buffered=buffered
    )
    network.run(network.scene.now + 1.0)
    for src, dst, ethertype, pause in sent:
        if src != dst:
            network.frame(src, dst, ethertype)
            network.run(network.scene.now + pause)
    network.run(network.scene.now + 12.0)
    recorder = network.scene.recorder
    assert recorder.texts == []
    assert len(recorder.answers) == network.packet_ins
    assert {one.result for one in recorder.answers} <= {
        AnswerResult.EQUAL,
        AnswerResult.LATE,
        AnswerResult.NOT_COMPARABLE,
    }
    assert not any(one.differing_count for one in recorder.tables)
    assert NotComparable.NOT_KNOWN not in recorder.results
    network.scene.close()
