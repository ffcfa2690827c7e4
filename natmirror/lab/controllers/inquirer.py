"""A learning switch for the lab that also asks its switch everything at once, and reports the answers.

    python -m natmirror.lab.controllers.inquirer VERSION PORT WAIT [ECHO_INTERVAL MAX_UNREPLIED]

As soon as a session is complete, it sends all questions in one piece. It prints these lines besides those of
report_lines.py: ``answer KIND XID_OK SECONDS`` for each answer, where KIND is ``DESC`` for the reply to that question
and ``DESC:error/TYPE/CODE`` for an error, and XID_OK (yes, no) says whether the answer has the xid of an open question;
``unanswered KIND`` for each question that is still open after WAIT seconds; ``inquired DPID ANSWERED ASKED`` at the
end. With the last two arguments it sends an ECHO_REQUEST every ECHO_INTERVAL seconds, and closes the connection when
more than MAX_UNREPLIED of them are unanswered.
"""

# ruff: noqa: I001 - osken comes first, as it patches for os-ken
import sys
import time
from dataclasses import dataclass
from typing import Any

from natmirror.lab.controllers import report_lines
from natmirror.lab.controllers import osken
from natmirror.lab.controllers.learning_switch import LearningSwitch
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub

_OPENFLOW_1_0 = osken.VERSIONS["1.0"]
_ECHO_DATA = b"natmirror"
_REPLIES = {
    "OFPEchoReply": "ECHO",
    "OFPBarrierReply": "BARRIER",
    "OFPSwitchFeatures": "FEATURES",
    "OFPGetConfigReply": "GET_CONFIG",
    "OFPDescStatsReply": "DESC",
    "OFPPortDescStatsReply": "PORT_DESC",
    "OFPTableStatsReply": "TABLE",
    "OFPFlowStatsReply": "FLOW",
    "OFPAggregateStatsReply": "AGGREGATE",
    "OFPPortStatsReply": "PORT",
    "OFPQueueStatsReply": "QUEUE",
    "OFPGroupFeaturesStatsReply": "GROUP_FEATURES",
    "OFPMeterFeaturesStatsReply": "METER_FEATURES",
    "OFPTableFeaturesStatsReply": "TABLE_FEATURES",
    "OFPRoleReply": "ROLE",
    "OFPVendor": "ROLE",  # Nicira's in 1.0, the only experimenter message that is requested
    "OFPGetAsyncReply": "GET_ASYNC",
    "OFPQueueGetConfigReply": "QUEUE_GET_CONFIG",
}
_EVENTS = [getattr(ofp_event, f"Event{name}") for name in (*_REPLIES, "OFPErrorMsg")]
_NX_ROLE_OTHER = 0
_MORE = 1  # OFPSF_REPLY_MORE and OFPMPF_REPLY_MORE


@dataclass(slots=True)
class _Questions:
    """The questions to one switch; the open ones by xid."""

    asked: int
    asked_at: float
    open: dict[int, str]
    answered: int = 0


class Inquirer(LearningSwitch):
    """A learning switch that sends every request of its OpenFlow version."""

    wait = 5.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._questions: dict[Any, _Questions] = {}

    def complete(self, datapath: Any) -> None:
        """Send all questions in one piece."""
        questions = _questions(datapath)
        for question in questions.values():
            datapath.set_xid(question)
            question.serialize()
        xids = {question.xid: kind for kind, question in questions.items()}
        self._questions[datapath] = _Questions(len(xids), time.monotonic(), xids)
        datapath.send(b"".join(bytes(question.buf) for question in questions.values()))
        hub.spawn(self._report_at_deadline, datapath)

    @set_ev_cls(_EVENTS, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_answer(self, event: Any) -> None:
        """Report an answer; one in several parts with its last part."""
        message = event.msg
        questions = self._questions.get(message.datapath)
        if questions is None or getattr(message, "flags", 0) == _MORE:
            return
        name = type(message).__name__
        if name == "OFPEchoReply" and message.data != _ECHO_DATA:
            return  # the answer to os-ken's own ECHO_REQUEST
        kind = questions.open.pop(message.xid, None)
        what = _REPLIES.get(name) or f"{kind or 'UNKNOWN'}:error/{message.type}/{getattr(message, 'code', 0)}"
        if kind is not None and name != "OFPErrorMsg" and what != kind:
            what = f"{kind}:{what}"  # the answer is of another kind
        seconds = time.monotonic() - questions.asked_at
        report_lines.print_line(f"answer {what} {'no' if kind is None else 'yes'} {seconds:.3f}")
        questions.answered += kind is not None
        if kind is not None and not questions.open:
            self._report(message.datapath)

    def _report_at_deadline(self, datapath: Any) -> None:
        hub.sleep(self.wait)
        if self._questions[datapath].open:
            self._report(datapath)

    def _report(self, datapath: Any) -> None:
        questions = self._questions[datapath]
        for kind in questions.open.values():
            report_lines.print_line(f"unanswered {kind}")
        report_lines.print_line(f"inquired {datapath.id} {questions.answered} {questions.asked}")


def _questions(datapath: Any) -> dict[str, Any]:
    ofp, parser = datapath.ofproto, datapath.ofproto_parser
    common = {
        "ECHO": parser.OFPEchoRequest(datapath, data=_ECHO_DATA),
        "FEATURES": parser.OFPFeaturesRequest(datapath),
        "GET_CONFIG": parser.OFPGetConfigRequest(datapath),
        "DESC": parser.OFPDescStatsRequest(datapath, 0),
        "TABLE": parser.OFPTableStatsRequest(datapath, 0),
    }
    match = parser.OFPMatch()
    if ofp.OFP_VERSION == _OPENFLOW_1_0:
        all_tables, no_port = 0xFF, ofp.OFPP_NONE
        return {
            **common,
            "FLOW": parser.OFPFlowStatsRequest(datapath, 0, match, all_tables, no_port),
            "AGGREGATE": parser.OFPAggregateStatsRequest(datapath, 0, match, all_tables, no_port),
            "PORT": parser.OFPPortStatsRequest(datapath, 0, no_port),
            "QUEUE": parser.OFPQueueStatsRequest(datapath, 0, ofp.OFPP_ALL, ofp.OFPQ_ALL),
            "ROLE": parser.NXTRoleRequest(datapath, _NX_ROLE_OTHER),
            "QUEUE_GET_CONFIG": parser.OFPQueueGetConfigRequest(datapath, 1),
            "BARRIER": parser.OFPBarrierRequest(datapath),
        }
    everything = (ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0, match)
    return {
        **common,
        "PORT_DESC": parser.OFPPortDescStatsRequest(datapath),
        "FLOW": parser.OFPFlowStatsRequest(datapath, 0, *everything),
        "AGGREGATE": parser.OFPAggregateStatsRequest(datapath, 0, *everything),
        "PORT": parser.OFPPortStatsRequest(datapath, 0, ofp.OFPP_ANY),
        "QUEUE": parser.OFPQueueStatsRequest(datapath, 0, ofp.OFPP_ANY, ofp.OFPQ_ALL),
        "GROUP_FEATURES": parser.OFPGroupFeaturesStatsRequest(datapath),
        "METER_FEATURES": parser.OFPMeterFeaturesStatsRequest(datapath),
        "TABLE_FEATURES": parser.OFPTableFeaturesStatsRequest(datapath),
        "ROLE": parser.OFPRoleRequest(datapath, ofp.OFPCR_ROLE_NOCHANGE, 0),
        "GET_ASYNC": parser.OFPGetAsyncRequest(datapath),
        "QUEUE_GET_CONFIG": parser.OFPQueueGetConfigRequest(datapath, ofp.OFPP_ANY),
        "BARRIER": parser.OFPBarrierRequest(datapath),
    }


def main() -> None:
    """Serve until the process is killed."""
    version, port, wait, *echo = sys.argv[1:]
    Inquirer.OFP_VERSIONS = (osken.VERSIONS[version],)
    Inquirer.wait = float(wait)
    options: dict[str, object] = {}
    if echo:
        interval, unreplied = echo
        options = {"echo_request_interval": float(interval), "maximum_unreplied_echo_requests": int(unreplied)}
    osken.serve(__name__, int(port), **options)


if __name__ == "__main__":
    from natmirror.lab.controllers import inquirer

    inquirer.main()
