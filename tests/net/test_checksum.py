"""The internet checksum, computed in full and updated."""

from hypothesis import given
from hypothesis import strategies as st

from natmirror.net.checksum import ones_sum, updated_checksum


@given(st.binary(max_size=300))
def test_the_sum_equals_that_of_the_obvious_loop(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(padded[at] << 8 | padded[at + 1] for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_sum(data) == total


@given(st.binary(min_size=20, max_size=20), st.integers(0, 9), st.binary(min_size=2, max_size=2))
def test_an_updated_checksum_equals_a_computed_one(data: bytes, at: int, new: bytes) -> None:
    changed = data[: 2 * at] + new + data[2 * at + 2 :]
    updated = updated_checksum(~ones_sum(data) & 0xFFFF, data[2 * at : 2 * at + 2], new)
    assert updated % 0xFFFF == (~ones_sum(changed) & 0xFFFF) % 0xFFFF, "0 and 0xffff are the same checksum"
