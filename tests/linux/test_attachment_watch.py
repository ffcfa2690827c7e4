"""What stops production in front of the kernel's hooks: what is new there, and what drops packets. A manual clock."""

from dataclasses import replace

from natmirror.linux.attachment_watch import AttachmentWatch, Passing
from natmirror.linux.traffic_control import Attachment, Traffic

XDP = Attachment("the XDP program 7", "ip link set sw0 xdp off", 7)
TBF = Attachment("the qdisc tbf", "tc qdisc del dev pl0 root", 0x80010000, may_drop=False)
BARE = {"sw0": Traffic(), "pl0": Traffic(lost={"noqueue": 0})}
WELL, UNKNOWN = Passing(has_passed=True), Passing()


class Host:
    """Looks every three seconds, from 100 s on."""

    def __init__(self) -> None:
        self.now = 97.0
        self.watch = AttachmentWatch(self.now)

    def look(self, traffic: dict[str, Traffic], passing: Passing = WELL) -> list[tuple[str, str]]:
        self.now += 3.0
        return [(str(one.code), str(one)) for one in self.watch.look(traffic, passing, self.now)]

    def stopped(self, seconds: float = 4.0) -> Passing:
        """Return that production was last seen to pass so long before the next look."""
        return Passing(self.now + 3.0 - seconds, has_passed=True)


def test_what_was_attached_since_production_last_passed_stops_it() -> None:
    host = Host()
    for _ in range(3):
        assert host.look(BARE) == []
    both = {"sw0": Traffic((XDP,)), "pl0": Traffic((TBF,), {"noqueue": 0})}
    assert host.look(both) == [], "production may still pass"
    (code, text), (_, other) = host.look(both, host.stopped())
    assert code == "production-stopped"
    assert "attached to sw0: the XDP program 7" in text and "run: ip link set sw0 xdp off" in text
    assert "run: tc qdisc del dev pl0 root" in other
    for _ in range(40):
        assert len(host.look(both, Passing(107.0, has_passed=True))) == 2, "as long as it lasts"
    assert host.look(both) == []


def test_what_was_there_while_production_passed_is_a_warning_and_a_qdisc_is_none() -> None:
    host = Host()
    both = {"sw0": Traffic((XDP,)), "pl0": Traffic((TBF,))}
    for _ in range(3):
        assert host.look(both) == []
    [(code, text)] = host.look(both, host.stopped(1.0))
    assert code == "filter-in-front"
    assert "sw0 has the XDP program 7" in text
    other = {**both, "sw0": Traffic((replace(XDP, handle=8),))}
    assert host.look(other, host.stopped(4.0))[0][0] == "production-stopped", "another program"


def test_where_production_has_never_passed_nothing_is_certain() -> None:
    host = Host()
    there = {"sw0": Traffic((XDP,), {"clsact": 9})}
    for _ in range(9):
        assert host.look(there, UNKNOWN) == [], "no client may have come yet"
    host.look(there, UNKNOWN)
    assert [code for code, _ in host.look(there, UNKNOWN)] == ["filter-in-front"]
    assert host.look(there) == []
    [warned] = AttachmentWatch().look(there, UNKNOWN, 0.0)
    assert warned.code == "filter-in-front", "doctor looks once"
    assert AttachmentWatch().look(there, Passing(3.0, has_passed=True), 4.0) == [warned]


def test_where_a_mirror_or_backend_answers_nothing_a_filter_may_be_why() -> None:
    host = Host()
    both = {"sw0": Traffic(), "pl0": Traffic((XDP, TBF))}
    assert host.look(both) == []
    [found] = host.watch.look(both, WELL, host.now, {"openflow/m", "openflow/c1"})
    assert found.code == "filter-in-front"
    assert str(found).startswith(
        "filter-in-front: natmirror does not see answers of openflow/c1 and openflow/m, and pl0 has the XDP program 7"
    )
    assert host.watch.look(BARE, WELL, host.now, {"openflow/m"}) == []


def lost(dropped: int, held: int = 0) -> dict[str, Traffic]:
    return {"sw0": Traffic(lost={"clsact": dropped}, held={"clsact": held})}


def test_a_qdisc_that_drops_packets_since_production_stopped() -> None:
    host = Host()
    for _ in range(3):
        assert host.look(lost(5)) == []
    assert host.look(lost(7), host.stopped()) == [], "few"
    [(code, text)] = host.look(lost(9), Passing(108.0, has_passed=True))
    assert code == "qdisc-drops"
    assert "the qdisc clsact of sw0 has dropped 4 packets since, and holds 0" in text
    [(_, text)] = host.look(lost(5, 3), Passing(108.0, has_passed=True))
    assert "has dropped 0 packets since, and holds 3" in text


def test_a_qdisc_that_drops_packets_all_the_time_is_not_to_blame() -> None:
    host = Host()
    for number in range(6):
        assert host.look(lost(10 * number)) == []
    stopped = Passing(host.now, has_passed=True)
    assert host.look(lost(60), stopped) == host.look(lost(70), stopped) == []
    [(code, _)] = host.look(lost(400), stopped)
    assert code == "qdisc-drops"
