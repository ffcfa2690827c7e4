"""Endpoints as text, and from the rules' objects."""

import pytest

from natmirror.net.endpoint import endpoint_of, parse_endpoint, show
from natmirror.rules import parse_rules
from tests.helpers.support import CLIENT, RULES, SERVICE


def test_an_endpoint_is_parsed_as_it_was_shown() -> None:
    assert show(CLIENT) == "10.10.0.11:40001"
    assert parse_endpoint(show(CLIENT)) == CLIENT


@pytest.mark.parametrize("port", [1, 65535])
def test_each_port_is_parsed(port: int) -> None:
    assert parse_endpoint(f"10.10.0.11:{port}") == (CLIENT[0], port)


NO_PORTS = ("", ":", ":0", ":65536", ":-1", ":+1", ": 1", ":\u0661")
NO_ADDRESSES = (":6653", "10.10.0:1", "10.10.0.256:1", "s1:6653", "::1:6653")


@pytest.mark.parametrize("text", [*(f"10.10.0.11{port}" for port in NO_PORTS), *NO_ADDRESSES])
def test_text_that_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_endpoint(text)


def test_the_endpoint_of_a_service_is_the_same_object_each_time() -> None:
    [service] = parse_rules(RULES).services
    assert endpoint_of(service) == SERVICE
    assert endpoint_of(service) is endpoint_of(service)
