"""The choice of the clients that a mirror gets."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from natmirror.mirror.sampling import why_not_mirrored
from natmirror.net.endpoint import endpoint_of
from natmirror.reasons import EndReason
from natmirror.rules import Mirror

CLIENTS = [bytes((10, 10, third, last)) for third in range(8) for last in range(1, 251)]

BACKEND = IPv4Address("10.20.0.11").packed, 6653


def mirror(**settings: object) -> Mirror:
    return Mirror("m", IPv4Address("10.20.0.13"), 6653, **settings)  # type: ignore[arg-type]


def sampled(fraction: float) -> set[bytes]:
    return {client for client in CLIENTS if why_not_mirrored(mirror(sample=fraction), client, BACKEND) is None}


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_sample_has_about_its_share_of_the_clients(fraction: float) -> None:
    assert abs(len(sampled(fraction)) / len(CLIENTS) - fraction) < 0.04


def test_a_sample_of_1_samples_all_clients_and_of_0_none() -> None:
    assert sampled(1.0) == set(CLIENTS)
    assert sampled(0.0) == set()
    assert why_not_mirrored(mirror(sample=0.0), CLIENTS[0], BACKEND) == EndReason.NOT_SAMPLED


def test_a_larger_sample_contains_the_smaller_one() -> None:
    assert sampled(0.1) < sampled(0.5) < sampled(0.9)


def test_the_hash_never_changes() -> None:
    """Every host and every release samples the same clients."""
    chosen = [client[3] for client in CLIENTS[:40] if why_not_mirrored(mirror(sample=0.25), client, BACKEND) is None]
    assert chosen == [4, 8, 9, 12, 18, 19, 20, 22, 25, 27, 29, 30, 33, 40]


def test_a_mirror_may_get_only_some_networks() -> None:
    some = mirror(only=(IPv4Network("10.10.3.0/24"), IPv4Network("10.10.5.7/32")))
    wanted = {client for client in CLIENTS if why_not_mirrored(some, client, BACKEND) is None}
    assert wanted == {client for client in CLIENTS if client[2] == 3} | {bytes((10, 10, 5, 7))}
    assert why_not_mirrored(some, CLIENTS[0], BACKEND) == EndReason.NOT_SELECTED
    assert why_not_mirrored(some, CLIENTS[0], endpoint_of(some)) == EndReason.MIRROR_IS_BACKEND
