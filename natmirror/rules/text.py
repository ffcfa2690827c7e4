"""The rules as text, with all defaults filled in."""

import shlex

from natmirror.rules.kinds import Balance
from natmirror.rules.model import Health, Mirror, Pair, Pool, Rules, Service, Side
from natmirror.rules.units import show_duration, show_size


def describe(rules: Rules) -> str:
    """Return the rules as they were understood, with all defaults filled in."""
    lines = _describe_top(rules)
    for service in rules.services:
        lines += [f"service {service.name} {service.address}:{service.port}"]
        lines += [f"  {line}" for line in _describe_service(service)]
    if rules.ha is not None:
        lines += _describe_pair(rules.ha)
    lines += [f"warning: {warning}" for warning in rules.warnings]
    return "\n".join(lines)


def differences(old: Rules, new: Rules) -> list[str]:
    """Return the lines of describe() that are gone from the old rules (-) and that are new (+)."""
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
        f"threads: {rules.threads or 'auto'}",
        f"known-switches: {rules.known_switches or 'not kept over a restart'}",
    ]


def _describe_service(service: Service) -> list[str]:
    mirrors = [f"mirror  {_describe_mirror(mirror)}" for mirror in service.mirrors]
    if (pool := service.pool) is None:
        return ["no pool: whatever listens there stays in charge, connections are only mirrored", *mirrors]
    over = f" over the client's {pool.hash}" if pool.balance is Balance.MAGLEV else ""
    # Lines are compared without regard to their order, which says everything here.
    order = ": " + ", ".join(backend.name for backend in pool.backends) if pool.balance is Balance.PRIORITY else ""
    lines = [f"balance {pool.balance}{over}{order}"]
    lines += [
        f"backend {backend.name} {backend.address}:{backend.port} weight {backend.weight}"
        + (f" max-connections {backend.max_connections}" if backend.max_connections else "")
        for backend in pool.backends
    ]
    if sorry := pool.sorry:
        lines.append(f"sorry   {sorry.name} {sorry.address}:{sorry.port}")
    lines.append(f"when-none {pool.when_none} when-down {pool.when_down}" + _slow_start(pool))
    lines.append(f"health  {_describe_health(pool.health)}")
    return lines + mirrors


def _slow_start(pool: Pool) -> str:
    return f" slow-start {show_duration(pool.slow_start)}" if pool.slow_start else ""


def _describe_health(health: Health | None) -> str:
    if health is None:
        return "not checked"
    words = f"{health.check} interval {show_duration(health.interval)} timeout {show_duration(health.timeout)}"
    command = f" command {shlex.join(health.command)}" if health.command else ""
    return f"{words} rise {health.rise} fall {health.fall}{command}"


def _describe_mirror(mirror: Mirror) -> str:
    words = [
        f"{mirror.name} {mirror.address}:{mirror.port} buffer {show_size(mirror.buffer)}",
        f"when-behind {mirror.when_behind}",
        f"throttle-limit {show_duration(mirror.throttle_limit)}" if mirror.throttles else "",
        f"sample {mirror.sample:.6%}".rstrip("0%").rstrip(".") + "%",
        "only " + ",".join(map(str, mirror.only)) if mirror.only else "",
        f"source {mirror.source or 'client'}",
        f"linger {show_duration(mirror.linger)}",
        f"connect-timeout {show_duration(mirror.connect_timeout)}",
        f"stall-timeout {show_duration(mirror.stall_timeout)}",
        "" if mirror.idle_timeout is None else f"idle-timeout {show_duration(mirror.idle_timeout)}",
        "direct" if mirror.direct else "",
        f"protocol {mirror.protocol}",
        f"reconnect {mirror.reconnect} unsolicited {mirror.unsolicited} statistics {mirror.statistics}"
        if mirror.speaks_openflow
        else "",
        f"record {mirror.record}" if mirror.record else "",
    ]
    return " ".join(word for word in words if word)


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
