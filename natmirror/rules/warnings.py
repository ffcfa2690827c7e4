"""Warnings about services: rules that are allowed, but under which some connections are lost or not mirrored."""

from collections import Counter
from collections.abc import Iterator, Sequence

from natmirror.rules.mirror_keys import MIRROR
from natmirror.rules.model import Service
from natmirror.rules.units import show_size


def memory_warnings(services: Sequence[Service], client_limit: int) -> Iterator[str]:
    """Yield a sentence for each service whose mirrors' buffers exceed what one client may hold, in bytes."""
    for service in services:
        buffers = sum(mirror.buffer for mirror in service.mirrors)
        if buffers > client_limit:
            yield (
                f"one connection to {service.name} may buffer {show_size(buffers)} for its mirrors, but one client may"
                f" hold {show_size(client_limit)}, a sixteenth of mirror-memory: its legs may end as memory-full before"
                " their buffers are full"
            )


def service_warnings(services: Sequence[Service]) -> Iterator[str]:
    """Yield a sentence for each backend and mirror that several services have, and for each setting without effect."""
    backends = [
        ((backend.address, backend.port), service)
        for service in services
        if service.pool
        for backend in service.pool.backends
    ]
    for (address, port), count in Counter(place for place, _ in backends).items():
        if count > 1:
            yield (
                f"backend {address}:{port} is in the pools of {count} services: a client that uses one source port for"
                " two of them loses the older connection, and after a restart replies to older connections are dropped"
            )
    owners = dict(backends)
    for service in services:
        for mirror in service.mirrors:
            owner = owners.get((mirror.address, mirror.port))
            if owner is service:
                yield (
                    f"mirror {mirror.address}:{mirror.port} of {service.name} is a backend of the same pool: the"
                    " connections that it gets as a backend are not mirrored there"
                )
            elif owner is not None:
                yield (
                    f"mirror {mirror.address}:{mirror.port} of {service.name} is a backend of {owner.name}: where a"
                    f" client uses one source port for both services, its connection to {service.name} is not mirrored"
                    " there"
                )
    for service in services:
        yield from _verdict_warnings(service)
    mirrors = Counter((mirror.address, mirror.port) for service in services for mirror in service.mirrors)
    for (address, port), count in mirrors.items():
        if count > 1:
            yield (
                f"mirror {address}:{port} is a mirror of {count} services: where a client uses one source port for two"
                " of them, only the first connection is mirrored there"
            )


def _verdict_warnings(service: Service) -> Iterator[str]:
    twins = {mirror.name: mirror for mirror in service.mirrors}
    for mirror in service.mirrors:
        place = f"mirror {mirror.name} of {service.name}"
        if not mirror.is_compared:
            if mirror.twin is not None:
                yield f"{place} has a twin without verdict: on: the twin has no effect"
            if mirror.warm_up != MIRROR["warm-up"].default:
                yield f"{place} has a warm-up without verdict: on: it has no effect"
        elif mirror.twin is not None:
            twin = twins[mirror.twin]
            if (twin.sample, twin.only) != (mirror.sample, mirror.only):
                yield (
                    f"{place} and its twin {twin.name} differ in sample or only: they get the messages of different"
                    " switches, so that what differs at both may still be chance"
                )
