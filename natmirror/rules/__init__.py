"""The rules: as values, from their file, as text, and what a reload may change.

Begin with model.py, then kinds.py: the words that a key may choose between. file.py reads the file, by yaml_reader.py
and scalars.py (pair_section.py its section ``ha``), and says what is wrong in which line. text.py describes rules with
all defaults, reload.py says what may change while natmirror runs, shards.py divides clients among threads. Imports net
and errors.
"""

from natmirror.rules.file import (
    load_rules,
    parse_rules,
)
from natmirror.rules.kinds import (
    Balance,
    CheckKind,
    HashInput,
    MirrorProtocol,
    Reconnect,
    Statistics,
    Unsolicited,
    WhenBehind,
    WhenDown,
    WhenNone,
)
from natmirror.rules.model import (
    DEFAULT_ADVERT_INTERVAL,
    DEFAULT_FLOWS,
    DEFAULT_MEMORY,
    LEG_PORTS,
    MAX_THREADS,
    Backend,
    Health,
    Host,
    Mirror,
    Pair,
    Pool,
    Rules,
    Service,
    Side,
)

__all__ = [
    "DEFAULT_ADVERT_INTERVAL",
    "DEFAULT_FLOWS",
    "DEFAULT_MEMORY",
    "LEG_PORTS",
    "MAX_THREADS",
    "Backend",
    "Balance",
    "CheckKind",
    "HashInput",
    "Health",
    "Host",
    "Mirror",
    "MirrorProtocol",
    "Pair",
    "Pool",
    "Reconnect",
    "Rules",
    "Service",
    "Side",
    "Statistics",
    "Unsolicited",
    "WhenBehind",
    "WhenDown",
    "WhenNone",
    "load_rules",
    "parse_rules",
]
