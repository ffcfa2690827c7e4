"""All variants of the learning switch, by name."""

import random
from dataclasses import replace

from tests.live.verdict.bugs import BUGS
from tests.live.verdict.learning import IDLE_TIMEOUT, PRIORITY
from tests.live.verdict.orders import Cause, Order, Rule
from tests.live.verdict.other_bugs import OTHER_BUGS
from tests.live.verdict.pipeline_bugs import PIPELINE_BUGS, PIPELINE_EQUAL
from tests.live.verdict.variants import Bug, Form, Variant


def _noise() -> Bug:
    """Draw timeouts by chance, as FAUCET does; two of these controllers differ often, and yet are equal."""
    chance = random.SystemRandom()

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        timeout = IDLE_TIMEOUT + chance.randint(0, 1)
        return [
            replace(one, idle_timeout=timeout) if isinstance(one, Rule) and one.idle_timeout else one for one in orders
        ]

    return bug


def _noise_and_priority() -> Bug:
    """Draw timeouts by chance too, and have another priority for rules with the shorter one: by the share of rules that
    differ, it is as good as a twin; only the values tell."""
    noise = _noise()

    def bug(cause: Cause | None, orders: list[Order]) -> list[Order]:
        return [
            replace(one, priority=PRIORITY + 1) if isinstance(one, Rule) and one.idle_timeout == IDLE_TIMEOUT else one
            for one in noise(cause, orders)
        ]

    return bug


EQUAL = (
    Variant("same"),
    Variant("cookies", form=Form.COOKIES),
    Variant("shuffled", form=Form.SHUFFLED),
)
NOISY = Variant("noisy", bug=_noise)
NOISY_BUG = Variant("noisybug", r"priority 11 for 10", _noise_and_priority)
FAUCET = Variant("faucet", versions=("1.3",))
FAUCET_BUG = Variant("faucetbug", r"(idle|hard)_timeout", versions=("1.3",))
VARIANTS = {
    one.name: one
    for one in (*EQUAL, *BUGS, *OTHER_BUGS, *PIPELINE_EQUAL, *PIPELINE_BUGS, NOISY, NOISY_BUG, FAUCET, FAUCET_BUG)
}
USUAL = (
    ("same", ["same", *(one.name for one in (*EQUAL, *BUGS))]),
    ("same", ["same", *(one.name for one in OTHER_BUGS)]),
    ("pipeline", [one.name for one in (*PIPELINE_EQUAL, *PIPELINE_BUGS)]),
)
"""Production, and the variants of it that run beside it at the same time: controllers that leave nothing to chance."""
