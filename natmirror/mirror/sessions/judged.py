"""A judged connection, as its packet thread knows it."""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Judged:
    """A connection that is judged: its number in statements, and the mirrors that are judged, by name, each with its
    index there."""

    number: int
    mirrors: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """All mirrors that are or were judged, by their indexes."""
    is_lost: bool = False
    """Whether its latest statement says that messages are left out."""
