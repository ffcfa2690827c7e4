"""Strategies for the weather of a simulated network."""

from dataclasses import replace

from hypothesis import strategies as st

from tests.helpers.simulator import Weather

STREAM = bytes(range(251)) * 320
FINE = Weather()
weathers = st.builds(
    Weather,
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.3]),
    repetition=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    delay=st.sampled_from([0.0001, 0.001, 0.05]),
    jitter=st.sampled_from([0.0, 0.0, 0.005, 0.1]),
    rate=st.sampled_from([None, None, 100_000.0]),
)
mirror_weathers = st.builds(replace, weathers, mtu=st.sampled_from([1500, 1500, 576, 1000]))
