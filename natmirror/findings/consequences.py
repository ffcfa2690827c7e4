"""Which findings only follow from others: they are not shown as long as their cause is, because one fault is one
problem to mend.

What traffic shows follows from what keeps packets from passing, and routes without a way from a host that forwards
nothing. A cause is at least as bad as what follows from it, so that health does not depend on this. Findings with the
same remedy are one problem too: a warning that a failure's remedy mends besides is not shown.
"""

from collections.abc import Iterable, Mapping

from natmirror.findings.code import Finding, FindingCode, Severity
from natmirror.findings.host_codes import HostCode
from natmirror.findings.own_codes import OwnCode
from natmirror.findings.path_codes import PathCode

_SHOWN_BY_CLIENTS = frozenset(
    {
        PathCode.SERVICE_SILENT,
        PathCode.SERVICE_HARDLY_PASSES,
        PathCode.CLIENTS_UNREACHABLE,
        PathCode.NO_NEW_CONNECTIONS,
        PathCode.SYNS_UNANSWERED,
        PathCode.HANDSHAKES_INCOMPLETE,
        PathCode.BACKEND_SILENT,
    }
)
_SHOWN_BY_CHECKS = frozenset(
    {PathCode.NO_BACKEND_UP, PathCode.SORRY_ALONE, PathCode.POOL_IN_PANIC, PathCode.CHECK_SAYS_NOTHING}
)

_FOLLOWS: Mapping[FindingCode, frozenset[FindingCode]] = {
    HostCode.NO_FORWARDING: _SHOWN_BY_CLIENTS | {PathCode.PRODUCTION_CUT, PathCode.PARTLY_CUT},
    HostCode.PRODUCTION_DROPPED: _SHOWN_BY_CLIENTS,
    HostCode.PRODUCTION_NOT_QUEUED: _SHOWN_BY_CLIENTS,
    HostCode.PRODUCTION_REDIRECTED: _SHOWN_BY_CLIENTS,
    HostCode.MARK_COLLIDES: _SHOWN_BY_CLIENTS,
    HostCode.PRODUCTION_STOPPED: _SHOWN_BY_CLIENTS | {HostCode.QDISC_DROPS},
    HostCode.QDISC_DROPS: _SHOWN_BY_CLIENTS,
    PathCode.PRODUCTION_CUT: _SHOWN_BY_CLIENTS,
    PathCode.ARP_IN_VAIN: _SHOWN_BY_CLIENTS,
    PathCode.SERVICE_ADDRESS_NOT_LOCAL: _SHOWN_BY_CLIENTS,
    PathCode.NO_BACKEND_REACHABLE: _SHOWN_BY_CLIENTS | _SHOWN_BY_CHECKS | {PathCode.NO_ROUTE_TO_BACKEND},
    PathCode.NO_BACKEND_UP: _SHOWN_BY_CLIENTS,
    PathCode.SERVICE_SILENT: frozenset({PathCode.BACKEND_SILENT}),
    OwnCode.RULES_NOT_REPAIRED: _SHOWN_BY_CLIENTS,
    OwnCode.RULES_UNKNOWN: _SHOWN_BY_CLIENTS,
    OwnCode.RULES_REMOVED: _SHOWN_BY_CLIENTS,
    OwnCode.OLD_RULES_NOT_REMOVED: _SHOWN_BY_CLIENTS,
}
"""What follows from each cause: for the services that the cause is about."""

_FOLLOWS_FOR_SAME: Mapping[FindingCode, frozenset[FindingCode]] = {
    PathCode.NO_ROUTE_TO_BACKEND: frozenset({PathCode.BACKEND_SILENT}),
    PathCode.NO_ROUTE_TO_MIRROR: frozenset({PathCode.MIRROR_SILENT}),
    PathCode.COPIES_CUT: frozenset({PathCode.MIRROR_SILENT}),
}
"""What follows from each cause for the same backend or mirror."""


def without_consequences(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings but those that follow from others, in their order."""
    found = list(findings)
    return [one for one in found if not any(_follows(one, cause) for cause in found if cause is not one)]


def _follows(one: Finding, cause: Finding) -> bool:
    if one.code in _FOLLOWS.get(cause.code, ()):
        return not cause.services or one.services <= cause.services
    if one.code in _FOLLOWS_FOR_SAME.get(cause.code, ()):
        return one.subject == cause.subject
    is_warning = one.code.severity is Severity.WARNING
    return is_warning and cause.stops_production and one.mend in cause.mend
