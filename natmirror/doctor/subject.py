"""What doctor examines: the rules file, this host, and the natmirror that runs on it, each read once when needed."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from natmirror import __version__
from natmirror.api.client import ask
from natmirror.errors import HostError, RulesError
from natmirror.findings import ALL_CODES, Finding, FindingCode, PathCode, SetupCode, without_consequences
from natmirror.linux import instance, preflight
from natmirror.linux.addresses import taken_addresses
from natmirror.linux.attachment_watch import AttachmentWatch, Passing
from natmirror.linux.host_state import read_features
from natmirror.linux.iptables import Firewall
from natmirror.linux.memory_limit import memory_limit
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.sampled_clients import LiveClients
from natmirror.linux.setup import missing_capabilities
from natmirror.rules import Rules, load_rules

DEFAULT_RULES = Path("/etc/natmirror/rules.yaml")
"""The rules file of the unit."""
_SILENT = (PathCode.BACKEND_SILENT, PathCode.MIRROR_SILENT)
_CODES = {code.value: code for code in ALL_CODES}


class NotCheckedError(Exception):
    """A check cannot be made; the message says why."""


class NothingToCheckError(Exception):
    """A check has nothing to look at; the message says why."""


@dataclass
class Subject:
    """What doctor examines. ``named_rules`` is the rules file that the operator has named; ``backend`` is the iptables
    that natmirror uses, None: the host's default."""

    named_rules: Path | None
    api: Path
    backend: str | None = None

    @cached_property
    def owner(self) -> str | None:
        """The natmirror that runs in this network namespace, as text; None: none does."""
        return instance.running()

    @cached_property
    def silence(self) -> str:
        """Why the running natmirror does not answer; empty if it has answered, or if none runs."""
        return self._asked[1]

    @cached_property
    def status(self) -> Mapping[str, Any] | None:
        """The state of the natmirror that answers; None: none does."""
        return self._asked[0]

    @cached_property
    def _asked(self) -> tuple[Mapping[str, Any] | None, str]:
        if self.owner is None:
            return None, ""
        try:
            status = ask("status", self.api)
        except HostError as error:
            return None, str(error)
        if status["version"] != __version__:
            return None, f"it is natmirror {status['version']}, and this doctor is of {__version__}"
        return status, ""

    def run(self) -> Mapping[str, Any]:
        """Return the state of the running natmirror. NothingToCheckError where none runs, NotCheckedError where it does
        not answer."""
        if self.status is not None:
            return self.status
        if self.owner is None:
            raise NothingToCheckError("natmirror does not run")
        raise NotCheckedError("natmirror does not answer")

    @cached_property
    def rules_path(self) -> Path:
        """The rules file: the named one, else that of the running natmirror, else that of the unit."""
        if self.named_rules is not None:
            return self.named_rules
        return Path(self.status["rules"]) if self.status is not None else DEFAULT_RULES

    @cached_property
    def _read_rules(self) -> tuple[Rules | None, str]:
        try:
            return load_rules(self.rules_path, taken_addresses()), ""
        except (RulesError, HostError) as error:
            return None, str(error)

    @property
    def rules_error(self) -> str:
        """Why the rules file cannot be used; empty if it can."""
        return self._read_rules[1]

    def rules(self) -> Rules:
        """Return the rules. NotCheckedError where there are none."""
        if self._read_rules[0] is None:
            raise NotCheckedError("there are no rules to check it with")
        return self._read_rules[0]

    def need_rights(self) -> None:
        """NotCheckedError where this process may not ask the kernel."""
        if missing := missing_capabilities():
            raise NotCheckedError(
                "run natmirror doctor as root" if os.geteuid() else f"root lacks {', '.join(missing)}"
            )

    @cached_property
    def firewall(self) -> Firewall:
        """The iptables that natmirror uses. HostError where there is none."""
        names = [one["name"] for one in self.status["machine"]["kept"]] if self.status is not None else []
        used = next((name.split()[0].removeprefix("iptables-") for name in names if " table " in name), None)
        return Firewall(self.backend or (used if used in ("nft", "legacy") else None))

    def found(self, codes: Collection[FindingCode]) -> list[Finding]:
        """Return the findings of these kinds: this host's, by the checks of the run itself, and those that the running
        natmirror reports. NotCheckedError where this host cannot be checked and natmirror has found none."""
        reported = [one for one in self._reported if one.code in codes]
        own, error = self._host
        if error and not reported:
            raise NotCheckedError(error)
        known = {(one.code, one.subject) for one in own}
        return [one for one in own if one.code in codes] + [
            one for one in reported if (one.code, one.subject) not in known
        ]

    def reported(self, codes: Collection[FindingCode]) -> list[Finding]:
        """Return the findings of these kinds that the running natmirror reports. NothingToCheckError and
        NotCheckedError as for run()."""
        self.run()
        return [one for one in self._reported if one.code in codes]

    @cached_property
    def _reported(self) -> list[Finding]:
        """What the running natmirror has found. Commands are only taken from this program, never from a socket."""
        if self.status is None:
            return []
        return [
            Finding(_CODES[one["code"]], one["subject"], one["problem"], one["mend"])
            if one["code"] in _CODES
            else SetupCode.REPORTED.found(code=one["code"], problem=one["problem"], mend=one["mend"])
            for one in self.status["findings"]
        ]

    @cached_property
    def _host(self) -> tuple[list[Finding], str]:
        """What is wrong with this host, and why that could not be checked."""
        try:
            self.need_rights()
            rules = self.rules()
            features = replace(read_features(rules, self.firewall), memory_limit=self._memory_limit())
            silent = {one.subject for one in self._reported if one.code in _SILENT}
            no_watch = AttachmentWatch(), Passing(has_passed=self.status is not None), 0.0  # which a run has itself
            found = preflight.check(rules, features, RuleReader(), LiveClients(), silent, *no_watch)
            return without_consequences(found), ""
        except (NotCheckedError, HostError) as error:
            return [], str(error)

    def _memory_limit(self) -> int | None:
        """Return the running natmirror's limit; a shell's says nothing about one that a service manager starts."""
        if self.status is None:
            return None
        return memory_limit(Path(f"/proc/{self.status['pid']}/cgroup"))
