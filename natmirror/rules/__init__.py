"""The rules: as values, from their file, as text, and what a reload may change.

Begin with model.py; file.py reads them, by yaml_reader.py and scalars.py, and says what is wrong with which line.
Imports net and errors.
"""

from natmirror.rules.file import (
    load_rules,
    parse_rules,
)
from natmirror.rules.model import (
    DEFAULT_ADVERT_INTERVAL,
    DEFAULT_FLOWS,
    DEFAULT_MEMORY,
    LEG_PORTS,
    MAX_QUEUES,
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
    "MAX_QUEUES",
    "Backend",
    "Health",
    "Host",
    "Mirror",
    "Pair",
    "Pool",
    "Rules",
    "Service",
    "Side",
    "load_rules",
    "parse_rules",
]
