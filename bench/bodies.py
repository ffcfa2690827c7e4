"""How fast bodies of OpenFlow messages are decoded, beside os-ken's parser in the same process.

    python -m bench.bodies

Prints messages a second for each kind and version, and the ratio; os-ken parses no PACKET_OUT and no GROUP_MOD.
"""

import time
from collections.abc import Callable

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.text import body_text
from natmirror.openflow.messages import VERSIONS, Message, Type, parse
from tests.helpers.openflow import understood
from tests.helpers.openflow_bodies import SAMPLES

_KINDS = (Type.FLOW_MOD, Type.PACKET_OUT, Type.PACKET_IN, Type.FLOW_REMOVED, Type.GROUP_MOD, Type.MULTIPART_REPLY)
_ROUNDS, _SECONDS = 5, 0.1
_NOT_PARSED_BY_OS_KEN = (Type.PACKET_OUT, Type.GROUP_MOD)


def rate(function: Callable[[], object]) -> float:
    """Return the calls a second of the fastest of some rounds: others run on this machine too."""
    fastest = 0.0
    for _ in range(_ROUNDS):
        calls, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < _SECONDS:
            for _ in range(100):
                function()
            calls += 100
        fastest = max(fastest, calls / passed)
    return fastest


def line(message: Message) -> str:
    """Return the figures of one message."""
    raw = message.raw
    ours = rate(lambda: decode(parse(raw)))
    text = rate(lambda: body_text(decode(parse(raw))))
    figures = f"{VERSIONS[message.version]} {message.name:15} {ours:9,.0f}/s, as text {text:9,.0f}/s"
    if message.kind in _NOT_PARSED_BY_OS_KEN:
        return figures
    other = rate(lambda: understood(raw))
    return f"{figures}; os-ken {other:9,.0f}/s, {ours / other:.2f} times as fast"


def main() -> None:
    """Print the figures of the first sample of each kind."""
    for version in VERSIONS:
        samples = {message.kind: message for message in map(parse, reversed(SAMPLES[version]))}
        for kind in _KINDS:
            if kind in samples:
                print(line(samples[kind]), flush=True)


if __name__ == "__main__":
    main()
