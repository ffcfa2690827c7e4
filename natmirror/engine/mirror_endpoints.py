"""The mirrors' endpoints, and the addresses of this host that are the sources of legs."""

from collections.abc import Callable

from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Mirror, Rules


class MirrorEndpoints:
    """The mirrors by endpoint. Mirrors that a reload removes stay until prune(), because their packets may still arrive
    and must not reach clients."""

    def __init__(self, rules: Rules, put: Callable[[list[Endpoint]], None]) -> None:
        """``put`` gets, after each change, the mirrors whose packets reach no client."""
        self.at: dict[Endpoint, Mirror] = {}
        self.sources: set[bytes] = set()
        """Addresses of this host that are the sources of legs."""
        self._put = put
        self.reload(rules)

    def reload(self, rules: Rules) -> None:
        """Apply these rules; removed mirrors stay until prune()."""
        self._listed = [mirror for service in rules.services for mirror in service.mirrors]
        self._add()

    def prune(self) -> None:
        """Forget the removed mirrors."""
        self.at.clear()
        self.sources.clear()
        self._add()

    def _add(self) -> None:
        self.at.update((endpoint_of(mirror), mirror) for mirror in self._listed)
        self.sources.update(mirror.source.packed for mirror in self._listed if mirror.source is not None)
        self._put([endpoint for endpoint, mirror in self.at.items() if not mirror.direct])
