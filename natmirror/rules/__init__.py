"""The rules: their values, their file, the table of their keys, and what a reload may change.

Begin with keys.py, the table of the keys; pool_keys.py, mirror_keys.py and pair_keys.py have parts of it. scalars.py
and addresses.py hold the types of values, kinds.py the words that a key may choose between. model.py has the rules as
values, overrides.py what commands have set over them. file.py and pair_section.py read a file by the tables, through
tables.py and yaml_reader.py. text.py describes rules with all defaults, reload.py says what may change while natmirror
runs, shards.py divides the clients among the threads. Imports net and errors.
"""

from natmirror.rules.addresses import ListenAddress
from natmirror.rules.file import (
    load_rules,
    parse_rules,
)
from natmirror.rules.keys import MAX_THREADS
from natmirror.rules.kinds import (
    Balance,
    CheckKind,
    HashInput,
    MirrorProtocol,
    Reconnect,
    Release,
    Statistics,
    Unsolicited,
    Verdict,
    WhenBehind,
    WhenDown,
    WhenNone,
)
from natmirror.rules.model import (
    LEG_PORTS,
    Backend,
    Health,
    Host,
    Mirror,
    Pair,
    PerClient,
    Pool,
    Rules,
    Service,
    Side,
    Timeouts,
)
from natmirror.rules.overrides import Override, OverrideKind, Overrides, place_of

__all__ = [
    "LEG_PORTS",
    "MAX_THREADS",
    "Backend",
    "Balance",
    "CheckKind",
    "HashInput",
    "Health",
    "Host",
    "ListenAddress",
    "Mirror",
    "MirrorProtocol",
    "Override",
    "OverrideKind",
    "Overrides",
    "Pair",
    "PerClient",
    "Pool",
    "Reconnect",
    "Release",
    "Rules",
    "Service",
    "Side",
    "Statistics",
    "Timeouts",
    "Unsolicited",
    "Verdict",
    "WhenBehind",
    "WhenDown",
    "WhenNone",
    "load_rules",
    "parse_rules",
    "place_of",
]
