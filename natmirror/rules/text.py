"""The rules as text with all defaults, which ``--check`` prints, and the differences that a reload prints."""

import shlex

from natmirror.rules.keys import TOP
from natmirror.rules.kinds import Balance
from natmirror.rules.mirror_keys import MIRROR
from natmirror.rules.model import Health, Mirror, Pair, PerClient, Rules, Service, Side, Timeouts
from natmirror.rules.pool_keys import POOL
from natmirror.rules.scalars import Percentage
from natmirror.rules.units import show_duration, show_size


def describe(rules: Rules) -> str:
    """Return the rules with all defaults, then the warnings."""
    lines = _describe_top(rules)
    for service in rules.services:
        lines += [f"service {service.name} {service.address}:{service.port}"]
        lines += [f"  {line}" for line in _describe_service(service)]
    if rules.ha is not None:
        lines += _describe_pair(rules.ha)
    lines += [f"warning: {warning}" for warning in rules.warnings]
    return "\n".join(lines)


def differences(old: Rules, new: Rules) -> list[str]:
    """Return the lines of describe() that differ, after ``-`` where only the old rules have them, else after ``+``."""
    sections = [
        {"": _describe_top(rules)}
        | {f"{one.name} {one.address}:{one.port}": _describe_service(one) for one in rules.services}
        for rules in (old, new)
    ]
    found = []
    for name in dict.fromkeys((*sections[0], *sections[1])):
        before, after = (section.get(name) for section in sections)
        if before is None or after is None:
            found.append(f"{'+' if before is None else '-'} service {name}")
        place = f"{name.split()[0]}: " if name else ""
        found += [f"- {place}{line}" for line in before or () if line not in (after or ())]
        found += [f"+ {place}{line}" for line in after or () if line not in (before or ())]
    return found


def _describe_top(rules: Rules) -> list[str]:
    return [
        "switches: " + ", ".join(map(str, rules.switches)),
        f"mirror-memory: {show_size(rules.mirror_memory)}",
        f"max-flows: {rules.max_flows}",
        f"timeouts: {_describe_timeouts(rules.timeouts)}",
        f"threads: {TOP['threads'].type.show(rules.threads)}",
        f"limit-per-client: {rules.limit_per_client or TOP['limit-per-client'].absent}",
        f"known-switches: {rules.known_switches or TOP['known-switches'].absent}",
        f"metrics: {rules.metrics or TOP['metrics'].absent}",
        f"api: {rules.api or TOP['api'].absent}",
        f"events: {rules.events or TOP['events'].absent}",
    ]


def _describe_timeouts(timeouts: Timeouts) -> str:
    return (
        f"opening {show_duration(timeouts.opening)} established {show_duration(timeouts.established)}"
        f" closing {show_duration(timeouts.closing)} closed {show_duration(timeouts.closed)}"
    )


def _describe_service(service: Service) -> list[str]:
    mirrors = [line for mirror in service.mirrors for line in _describe_mirror(mirror)]
    release = [f"release {service.release}"] if service.mirrors else []
    if (pool := service.pool) is None:
        return ["no pool: natmirror only mirrors; another program serves this address", *release, *mirrors]
    hashed = f" hash {pool.hash}" if pool.balance is Balance.MAGLEV else ""
    # differences() compares lines regardless of their order, so the order of the backends stands in a line of its own.
    order = ": " + ", ".join(backend.name for backend in pool.backends) if pool.balance is Balance.PRIORITY else ""
    lines = [f"balance {pool.balance}{hashed}{order}"]
    lines += [
        f"backend {backend.name} {backend.address}:{backend.port} weight {backend.weight}"
        + (f" max-connections {backend.max_connections}" if backend.max_connections else "")
        for backend in pool.backends
    ]
    if sorry := pool.sorry:
        lines.append(f"sorry   {sorry.name} {sorry.address}:{sorry.port}")
    more = " asymmetric" if pool.asymmetric else ""
    more += f" slow-start {show_duration(pool.slow_start)}" if pool.slow_start else ""
    more += f" panic {Percentage().show(pool.panic)}" if pool.panic != POOL["panic"].default else ""
    lines.append(f"when-none {pool.when_none} when-down {pool.when_down} mptcp {pool.mptcp}{more}")
    lines.append(f"health  {_describe_health(pool.health)}")
    if service.per_client is not None:
        lines.append(f"per-client {_describe_per_client(service.per_client)}")
    return lines + release + mirrors


def _describe_per_client(limits: PerClient) -> str:
    settings = (
        f"max-connections {limits.max_connections}" if limits.max_connections else "",
        f"new-connections {limits.new_connections}" if limits.new_connections else "",
    )
    return " ".join(filter(None, settings))


def _describe_health(health: Health | None) -> str:
    if health is None:
        return "not checked"
    settings = f"{health.check} interval {show_duration(health.interval)} timeout {show_duration(health.timeout)}"
    command = f" command {shlex.join(health.command)}" if health.command else ""
    return f"{settings} rise {health.rise} fall {health.fall}{command}"


def _describe_mirror(mirror: Mirror) -> list[str]:
    """Return lines, each with the mirror's name: what it buffers and gets, its connections, its protocol, and for a
    master its verdict."""
    groups = (
        (
            f"{mirror.address}:{mirror.port} buffer {show_size(mirror.buffer)}",
            f"when-behind {mirror.when_behind}",
            f"throttle-limit {show_duration(mirror.throttle_limit)}" if mirror.throttles else "",
            f"sample {MIRROR['sample'].type.show(mirror.sample)}",
            "only " + ",".join(map(str, mirror.only)) if mirror.only else "",
        ),
        (
            f"source {MIRROR['source'].type.show(mirror.source)}",
            f"linger {show_duration(mirror.linger)}",
            f"connect-timeout {show_duration(mirror.connect_timeout)}",
            f"stall-timeout {show_duration(mirror.stall_timeout)}",
            "" if mirror.idle_timeout is None else f"idle-timeout {show_duration(mirror.idle_timeout)}",
            "direct" if mirror.direct else "",
            "asymmetric" if mirror.asymmetric else "",
        ),
        (
            f"protocol {mirror.protocol}",
            f"reconnect {mirror.reconnect}",
            f"unsolicited {mirror.unsolicited} statistics {mirror.statistics}" if mirror.speaks_openflow else "",
            f"record {mirror.record}" if mirror.record else "",
        ),
        (
            f"verdict {mirror.verdict}" if mirror.speaks_openflow else "",
            f"twin {mirror.twin}" if mirror.twin else "",
            f"warm-up {show_duration(mirror.warm_up)}" if mirror.is_compared else "",
        ),
    )
    return [f"mirror  {mirror.name} {' '.join(filter(None, settings))}" for settings in groups if any(settings)]


def _describe_pair(pair: Pair) -> list[str]:
    return [
        f"pair: advert-interval {show_duration(pair.advert_interval)} state {pair.state_shown or 'not shared'}"
        f" key {'not set' if pair.key is None else 'set'}",
        *(
            f"  host {host.name} switch-side {host.switch_side} pool-side {host.pool_side} priority {host.priority}"
            for host in pair.hosts
        ),
        f"  switch-side {_describe_side(pair.switch_side)}",
        f"  pool-side   {_describe_side(pair.pool_side)}",
    ]


def _describe_side(side: Side) -> str:
    return f"{side.interface} {' '.join(map(str, side.addresses))} vrrp-id {side.vrrp_id}"
