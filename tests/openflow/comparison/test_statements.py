"""Statements about judged connections, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.comparison.statements import (
    Asked,
    Statement,
    StatementKind,
    StatementReader,
    ask,
    asked_of,
    encode,
    head,
)

said = st.builds(
    Statement,
    st.sampled_from(StatementKind),
    st.integers(0, (1 << 32) - 1),
    st.floats(0, 1e9),
    st.integers(0, (1 << 16) - 1),
    st.booleans(),
    st.binary(max_size=80),
)


def written(one: Statement) -> bytes:
    return head(one.kind, one.number, one.at, len(one.data), one.mirror, flag=one.flag) + one.data


@given(st.lists(said, max_size=5), st.lists(st.integers(0, 600), max_size=4))
def test_statements_come_as_they_were_said_however_the_stream_is_cut(
    all_said: list[Statement], cuts: list[int]
) -> None:
    data = b"".join(map(written, all_said))
    reader, read = StatementReader(), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        reader.push([data[start:end]])
        while (one := reader.next()) is not None:
            read.append(one)
    assert read == all_said
    assert reader.unread_len == 0


@given(
    st.builds(
        Asked,
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, 255),
        st.binary(max_size=40),
        st.lists(st.binary(max_size=40), max_size=3).map(tuple),
    )
)
def test_a_question_comes_as_it_was_asked(asked: Asked) -> None:
    assert asked_of(ask(asked)) == asked


def test_json_comes_as_it_was_said() -> None:
    data = encode({"mirror": "master", "warm_up": 1.5})
    assert Statement(StatementKind.NAMED, 1, 0.0, 0, flag=False, data=data).values() == {
        "mirror": "master",
        "warm_up": 1.5,
    }


def test_what_no_statement_is_raises() -> None:
    reader = StatementReader()
    reader.push([bytes((0, 0, 0, 0, 99)) + bytes(15)])
    with pytest.raises(ValueError, match="99"):
        reader.next()
