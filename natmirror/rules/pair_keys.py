"""The tables of the keys in the section ha: the pair, its hosts and its sides."""

import re

from natmirror.rules.addresses import Address, InterfaceAddress, RedisUrl
from natmirror.rules.scalars import NAME, Duration, Integer, Secret, Text
from natmirror.rules.tables import Key, ListOf, Section

_PRIORITY = Integer(1, 254)  # RFC 9568 §5.2.4: 0 and 255 have meanings of their own
_VRRP_ID = Integer(1, 255)  # RFC 9568 §5.2.3
_ADVERT_INTERVAL = Duration(0.01, 40.95, 0.01)  # RFC 9568 §5.2.7: twelve bits of hundredths of a second
_KEY = Secret(16, 1024)  # 16 hexadecimal digits hold a random key of 64 bits
_INTERFACE = Text(
    re.compile(r'[^\s/:"#!{}]{1,15}'),  # the names that Linux allows, without the syntax of keepalived.conf
    "the",
    "name of a network interface",
)

HOST = Section(
    "host",
    "One of the two hosts of a pair, and the addresses that it has at all times.",
    (
        Key("name", NAME, "Name of the host; the two differ.", example="lb1"),
        Key(
            "switch-side",
            Address(),
            "The host's own address on the switches' side; not a virtual one.",
            example="10.10.0.1",
        ),
        Key(
            "pool-side", Address(), "The host's own address on the pool's side; not a virtual one.", example="10.20.0.1"
        ),
        Key(
            "priority",
            _PRIORITY,
            "VRRP priority: of two hosts that start at once, the one with the higher priority becomes active. The two"
            " differ.",
            example="110",
        ),
    ),
)

SIDE = Section(
    "side",
    "One side of a pair: the virtual addresses that the active host has there.",
    (
        Key("interface", _INTERFACE, "Name of the network interface, the same on both hosts.", example="sw0"),
        Key(
            "addresses",
            ListOf(InterfaceAddress(), "addresses such as 10.10.0.100/24"),
            "The virtual addresses with their prefix lengths. A service with a pool whose address is in one of these"
            " networks must have one of these addresses.",
            example="[10.10.0.100/24]",
        ),
        Key("vrrp-id", _VRRP_ID, "VRRP id of the side, unique in its network; the two sides differ.", example="51"),
    ),
)

HA = Section(
    "ha",
    "The pair of hosts: one is active and has the virtual addresses of both sides, the other is standby. Both hosts"
    " have the same rules.",
    (
        Key(
            "hosts",
            ListOf(HOST, "two hosts", length=2),
            "The two hosts.",
            example="[{name: lb1, switch-side: 10.10.0.1, pool-side: 10.20.0.1, priority: 110},"
            " {name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}]",
        ),
        Key(
            "switch-side",
            SIDE,
            "The virtual addresses on the switches' side, the addresses of the services among them.",
            example="{interface: sw0, addresses: [10.10.0.100/24], vrrp-id: 51}",
        ),
        Key(
            "pool-side",
            SIDE,
            "The virtual addresses on the pool's side; backends and mirrors route to the clients through one of them.",
            example="{interface: pl0, addresses: [10.20.0.100/24], vrrp-id: 52}",
        ),
        Key(
            "advert-interval",
            _ADVERT_INTERVAL,
            "Time between two VRRP advertisements of the active host. The standby host takes over when three are"
            " missing.",
            example="1s",
            default=0.2,
        ),
        Key(
            "state",
            RedisUrl(),
            "Redis database, at an IPv4 address, in which the two hosts share the state that the rules alone do not"
            " give: pinned bindings, legs and known switches.",
            example="redis://10.20.0.30:6379/0",
            default=None,
            absent="not shared",
        ),
        Key(
            "key",
            _KEY,
            "Secret of both hosts that masks the sequence numbers in the database. Never shown.",
            example="correct horse battery staple",
            default=None,
            absent="derived from state and the VRRP ids",
        ),
    ),
)
