"""A learning switch for the lab that speaks first: it sends ECHO_REQUESTs at an interval, and reports the answers.

    python -m natmirror.lab.controllers.pinger VERSION PORT INTERVAL

Besides the lines of report_lines.py it prints a line for each answer: ``pong DPID NUMBER SECONDS``. The requests are
numbered from 1 in each session, and SECONDS is the time of the host's monotonic clock.
"""

# ruff: noqa: I001 - osken comes first, as it patches for os-ken
import sys
import time
from typing import Any

from natmirror.lab.controllers import report_lines
from natmirror.lab.controllers import osken
from natmirror.lab.controllers.learning_switch import LearningSwitch
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub


class Pinger(LearningSwitch):
    """A learning switch that sends an ECHO_REQUEST every ``interval`` seconds, whether they are answered or not."""

    interval = 0.1

    def complete(self, datapath: Any) -> None:
        """Begin to send ECHO_REQUESTs."""
        hub.spawn(self._ping, datapath)

    @set_ev_cls(ofp_event.EventOFPEchoReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_pong(self, event: Any) -> None:
        """Report an answer."""
        message = event.msg
        if message.data.isdigit():  # else it answers os-ken's own ECHO_REQUEST
            report_lines.print_line("pong", message.datapath.id, int(message.data), f"{time.monotonic():.4f}")

    def _ping(self, datapath: Any) -> None:
        number = 0
        while datapath.is_active:
            number += 1
            datapath.send_msg(datapath.ofproto_parser.OFPEchoRequest(datapath, data=str(number).encode()))
            hub.sleep(self.interval)


def main() -> None:
    """Serve until the process is killed."""
    version, port, interval = sys.argv[1:]
    Pinger.OFP_VERSIONS = (osken.VERSIONS[version],)
    Pinger.interval = float(interval)
    osken.serve(__name__, int(port))


if __name__ == "__main__":
    from natmirror.lab.controllers import pinger

    pinger.main()
