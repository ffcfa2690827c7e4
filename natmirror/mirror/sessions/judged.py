"""A judged connection, as its packet thread knows it."""

from dataclasses import dataclass, field

from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Mirror

MirrorKey = tuple[str, Endpoint]
"""A mirror's name and endpoint. Behind another endpoint is another program, though its name is the same."""


def key_of(mirror: Mirror) -> MirrorKey:
    """Return the key of a mirror."""
    return mirror.name, endpoint_of(mirror)


@dataclass(slots=True, eq=False)
class Judged:
    """A connection that is judged: its number in statements, and the mirrors that are judged, each with its index
    there."""

    number: int
    mirrors: dict[MirrorKey, int] = field(default_factory=dict)
    keys: list[MirrorKey] = field(default_factory=list)
    """All mirrors that are or were judged, by their indexes."""
    is_lost: bool = False
    """Whether its latest statement says that messages are left out."""
