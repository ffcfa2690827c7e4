"""Has the copies of open connections follow a reload, slice by slice, after the legs of removed and paused mirrors have
ended."""

from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.mirroring import Mirroring
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Service


class RuleChanges:
    """The changes of the mirrors of one engine's flows."""

    def __init__(
        self,
        ledger: Ledger,
        reconnection: Reconnection,
        mirroring: Mirroring,
        streams: dict[MirroredFlow, MirroredStream],
    ) -> None:
        self._ledger = ledger
        self._reconnection = reconnection
        self._mirroring = mirroring
        self._streams = streams

    def follow(self, flow: MirroredFlow, service: Service, backend: Endpoint | None) -> None:
        """Give the flow the mirrors that its service has now, as ``service``. Copies for new mirrors begin at a break,
        if the rules let them; of a flow without a stream there are none yet."""
        stream = self._streams.get(flow)
        if stream is None:
            stream = self._mirroring.begin_late(flow)
            stream.has_all_copies = True
        if not stream.has_all_copies or stream.is_released:
            return
        wanted = {mirror.name: mirror for mirror in service.copies}
        for copy in stream.copies:
            has_ended = copy.why_ended is not None
            if has_ended:
                self._reconnection.follow_rules(copy)
            if copy.service_name != service.name or copy.mirror.name not in wanted:
                continue
            if self._ledger.is_current(copy):
                del wanted[copy.mirror.name]
            elif has_ended:  # its successor has the same name
                self._ledger.copy_removed(copy)
                stream.copies = tuple(one for one in stream.copies if one is not copy)
        for mirror in wanted.values():
            self._add(stream, service, mirror, backend)
        self._reconnection.follow(stream)

    def _add(self, stream: MirroredStream, service: Service, mirror: Mirror, backend: Endpoint | None) -> None:
        why_absent = why_not_mirrored(mirror, stream.flow.client[0], backend) or EndReason.MIRROR_ADDED
        copy = stream.make_copy(mirror, why_absent)
        copy.service_name = service.name
        self._ledger.copy_added(copy)
