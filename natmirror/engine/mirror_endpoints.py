"""Where the mirrors of the rules are, and the addresses of ours that legs to them come from."""

from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Mirror, Rules


class MirrorEndpoints:
    """The mirrors by endpoint. Those that a reload removes stay until prune(): what they have sent is still on its way,
    and is not for clients."""

    def __init__(self, rules: Rules) -> None:
        self.at: dict[Endpoint, Mirror] = {}
        """The mirrors."""
        self.sources: set[bytes] = set()
        """Addresses of ours that legs come from."""
        self.reload(rules)

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on."""
        self._wanted = [mirror for service in rules.services for mirror in service.mirrors]
        self._add()

    def prune(self) -> None:
        """Forget mirrors that the rules do not name any more."""
        self.at.clear()
        self.sources.clear()
        self._add()

    def _add(self) -> None:
        self.at.update((endpoint_of(mirror), mirror) for mirror in self._wanted)
        self.sources.update(mirror.source.packed for mirror in self._wanted if mirror.source is not None)
