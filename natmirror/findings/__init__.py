"""Findings: what is wrong on this host or around it, each with a stable code, its meaning, and what mends it.

Begin with code.py. Each part of the run that looks for faults reports what it finds to ``Findings`` (registry.py), as a
whole, each time it has looked. ``natmirror status`` lists the findings but those that follow from others
(consequences.py), and a failure of production makes this host unfit. The codes stand in host_codes.py, path_codes.py
and own_codes.py; those that only ``natmirror doctor`` finds in setup_codes.py and send_codes.py.
"""

from natmirror.findings.code import Affected, Finding, FindingCode, Severity
from natmirror.findings.consequences import without_consequences
from natmirror.findings.host_codes import HostCode
from natmirror.findings.own_codes import OwnCode
from natmirror.findings.path_codes import PathCode
from natmirror.findings.registry import FindingEntry, Findings
from natmirror.findings.send_codes import SendCode
from natmirror.findings.setup_codes import SetupCode

ALL_CODES: tuple[FindingCode, ...] = (*HostCode, *PathCode, *OwnCode, *SetupCode, *SendCode)
"""Each kind of finding."""

__all__ = [
    "ALL_CODES",
    "Affected",
    "Finding",
    "FindingCode",
    "FindingEntry",
    "Findings",
    "HostCode",
    "OwnCode",
    "PathCode",
    "SendCode",
    "SetupCode",
    "Severity",
    "without_consequences",
]
