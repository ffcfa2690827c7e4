"""What is looked after on the host while packets pass, in a thread of its own: iptables, nftables, routes, addresses.

All of it may wait: for a program that has to be started, for another one's lock, for the kernel. So neither packets,
nor the main thread with its signals, roles and health, nor the service manager's watchdog depend on it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from natmirror.ha.member import PairMember
from natmirror.ha.role import HostRole
from natmirror.linux.tun import path_mtu
from natmirror.net.endpoint import endpoint_of
from natmirror.rules import Rules
from natmirror.runtime.chores import Chore, Keeper
from natmirror.runtime.kernel_rules import CHECK_INTERVAL, KernelRules
from natmirror.runtime.worker import Worker

_GRACE = 1.0  # seconds, for packets of what the rules do not name any more
_PATHS_INTERVAL = 10.0
_BYPASS_INTERVAL = 1.0
_STATUS_INTERVAL = 10.0


class Upkeep:
    """The thread, from start() on; ``in_place`` belongs to it then. ``heed`` is given the role that the host's
    addresses show, ``tell_status`` tells the service manager how things stand, where there is one."""

    def __init__(
        self,
        rules: Rules,
        workers: Sequence[Worker],
        kernel_rules: KernelRules,
        duty: PairMember,
        heed: Callable[[HostRole | None], None],
        tell_status: Callable[[], None] | None,
        now: float,
    ) -> None:
        self._rules = rules
        self._workers = workers
        self._kernel_rules = kernel_rules
        self._duty = duty
        self._heed = heed
        self.letting_go = Chore("rules of before a reload", CHECK_INTERVAL, kernel_rules.let_go, now + CHECK_INTERVAL)
        self._paths = Chore("MTUs of the routes to mirrors", _PATHS_INTERVAL, self.learn_paths)
        chores = [
            self.letting_go,
            Chore("iptables rules", CHECK_INTERVAL, self._check_rules, now + CHECK_INTERVAL),
            Chore("table of nftables", CHECK_INTERVAL, kernel_rules.check_translation, now + CHECK_INTERVAL),
            self._paths,
        ]
        if rules.ha is not None:
            chores.append(Chore("this host's addresses", CHECK_INTERVAL, self._compare_role, now + CHECK_INTERVAL))
        if any(service.pool is None for service in rules.services):
            chores.append(Chore("bypass of services without a pool", _BYPASS_INTERVAL, self._mend_bypass))
        if tell_status is not None:
            chores.append(Chore("service manager's status", _STATUS_INTERVAL, tell_status, now + _STATUS_INTERVAL))
        self.keeper = Keeper("upkeep", chores)

    def ask(self, question: Callable[[], Any], timeout: float) -> Any:
        """Have the thread do something, and wait for that; TimeoutError where that takes too long."""
        return self.keeper.ask(question, timeout)

    def go_by(self, rules: Rules, *, lasts: bool) -> None:
        """In the thread: the packets' threads go by these rules now. With ``lasts`` another host may still pass packets
        of what they do not name."""
        self._rules = rules
        self._paths.due_at = 0.0
        if self._kernel_rules.go_by(rules):
            self.letting_go.due_at = self.keeper.now() + (CHECK_INTERVAL if lasts else _GRACE)

    def learn_paths(self) -> None:
        """How large packets to each mirror may be, as far as the kernel knows: legs need not find it out."""
        for service in self._rules.services:
            for mirror in service.mirrors:
                if mtu := path_mtu(mirror.address.packed):
                    for worker in self._workers:
                        worker.set_path_mtu(endpoint_of(mirror), mtu)

    def _check_rules(self) -> None:
        self._duty.fitness.rules_are_in_place = self._kernel_rules.check()

    def _compare_role(self) -> None:
        self._heed(self._duty.shown_role())

    def _mend_bypass(self) -> None:
        for worker in self._workers:
            worker.mend_bypass()
