"""The rules with all that a service can have, their variants for reloads, and the endpoints that occur in them."""

from natmirror.net.endpoint import Endpoint
from natmirror.rules import Rules, parse_rules
from tests.helpers.support import at

_RULES = """
switches: [10.10.0.0/24]
mirror-memory: 1MiB
services:
  - name: a
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12, max-connections: 3}
        - {name: m, address: 10.20.0.13}
      when-none: refuse
    mirrors:
      - {name: throttling, address: 10.20.0.13, when-behind: throttle, buffer: 64KiB, idle-timeout: 20s}
      - {name: dropping, address: 10.20.0.14, buffer: 64KiB, asymmetric: true, reconnect: next-segment}
      - {name: own-source, address: 10.20.0.15, source: 10.20.0.1, buffer: 64KiB}
      - {name: session, address: 10.20.0.16, protocol: openflow, reconnect: next-message, buffer: 64KiB}
  - name: o
    address: 10.10.0.101
    port: 6653
    per-client: {max-connections: 4}
    pool: {backends: [{name: c1, address: 10.20.0.11}, {name: c3, address: 10.20.0.17}]}
    mirrors:
      - {name: again, address: 10.20.0.16, port: 7653, protocol: openflow, reconnect: next-message, buffer: 64KiB}
      - {name: once, address: 10.20.0.18, protocol: openflow, unsolicited: pass, statistics: refuse, buffer: 64KiB}
      - {name: selected, address: 10.20.0.14, only: [10.10.0.12/32], sample: 50%}
  - name: watched
    address: 10.10.0.102
    port: 6653
    mirrors:
      - {name: dropping, address: 10.20.0.19, buffer: 64KiB, reconnect: next-segment}
      - {name: session, address: 10.20.0.16, protocol: openflow, buffer: 64KiB}
  - name: nat
    address: 10.10.0.103
    port: 6640
    per-client: {max-connections: 5, new-connections: 3/s}
    pool:
      balance: least-connections
      backends: [{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]
      sorry: {name: sorry, address: 10.20.0.17}
"""
_PAIR = """
ha:
  hosts:
    - {name: lb1, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 200}
    - {name: lb2, switch-side: 10.10.0.3, pool-side: 10.20.0.3, priority: 100}
  switch-side:
    interface: eth0
    addresses: [10.10.0.100/24, 10.10.0.101/24, 10.10.0.102/24, 10.10.0.103/24]
    vrrp-id: 10
  pool-side: {interface: eth1, addresses: [10.20.0.100/24], vrrp-id: 20}
  state: redis://10.20.0.9:6379/0
"""
_CHANGES = (
    ("{name: c2, address: 10.20.0.12, max-connections: 3}", "{name: c9, address: 10.20.0.17}"),
    ("      - {name: dropping, address: 10.20.0.14, buffer: 64KiB, asymmetric: true, reconnect: next-segment}\n", ""),
    (", reconnect: next-segment", ""),
    (
        "      sorry: {name: sorry, address: 10.20.0.17}\n",
        "    mirrors: [{name: late, address: 10.20.0.18, port: 6653, buffer: 64KiB, reconnect: next-segment}]\n",
    ),
    ("source: 10.20.0.1, buffer: 64KiB", "source: 10.20.0.1, buffer: 64KiB, reconnect: next-segment"),
    ("- name: o\n", "- name: renamed\n"),
    ("10.10.0.0/24", "10.10.0.0/28"),
    ("per-client: {max-connections: 5, new-connections: 3/s}", "per-client: {max-connections: 1}"),
    ("    per-client: {max-connections: 4}\n", ""),
    ("protocol: openflow, unsolicited: pass, statistics: refuse, ", ""),
    ("      balance: round-robin\n", "      balance: maglev\n"),
    ("source: 10.20.0.1, ", ""),
    ("    port: 6653\n", "    port: 6653\n    release: seen\n"),
    ("    pool:\n      balance: round-robin\n", "    pool:\n      mptcp: pass\n      balance: round-robin\n"),
)

_JUDGED = _RULES.replace("protocol: openflow", "protocol: openflow, verdict: on, warm-up: 1s").replace(
    "name: again,", "name: again, twin: once,"
)
_JUDGED_CHANGES = (
    *(change for change in _CHANGES if "protocol: openflow" not in change[0]),
    ("verdict: on, warm-up: 1s, reconnect: next-message, buffer: 64KiB}\n  - name: o", "buffer: 64KiB}\n  - name: o"),
    ("warm-up: 1s", "warm-up: 0s"),
)


def _variants(rules: str, changes: tuple[tuple[str, str], ...], more: str = "") -> list[Rules]:
    texts = [rules, *(rules.replace(*change) for change in changes)]
    return [parse_rules(text + more) for text in texts]


ALONE = _variants(_RULES, _CHANGES)
"""The rules of a host without a pair, and what a reload may make of them."""
OF_PAIR = _variants(_RULES, _CHANGES, _PAIR)
"""The same rules for a host of a pair."""
JUDGED_ALONE = _variants(_JUDGED, _JUDGED_CHANGES)
JUDGED_OF_PAIR = _variants(_JUDGED, _JUDGED_CHANGES, _PAIR)
"""The same with masters that are compared with production's controllers."""

SERVICES = [at("10.10.0.100", 6653), at("10.10.0.101", 6653), at("10.10.0.102", 6653), at("10.10.0.103", 6640)]
BACKENDS = [at(f"10.20.0.{last}", port) for last in (11, 12, 13, 17) for port in (6653, 6640)]
MIRRORS = [at(f"10.20.0.{last}", 6653) for last in (13, 14, 15, 16, 18, 19)] + [at("10.20.0.16", 7653)]
OUR_ADDRESS = at("10.20.0.1", 0)[0]
"""The address of this host that one mirror's legs have."""
ROUTERS = ("10.20.0.1", "10.20.0.254", "10.10.0.11")


def is_openflow(service: Endpoint) -> bool:
    """Return whether good clients of a service speak OpenFlow."""
    return service in SERVICES[1:3]
