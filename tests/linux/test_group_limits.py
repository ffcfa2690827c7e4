"""The limits of a control group that the kernel has enforced lately."""

from pathlib import Path

import pytest

from natmirror.linux.group_limits import GroupLimits


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A control group with limits, none of which was reached in the last minute."""
    (tmp_path / "own").write_text("4:memory:/other\n0::/system.slice/natmirror.service\n")
    path = tmp_path / "system.slice" / "natmirror.service"
    path.mkdir(parents=True)
    (path / "cpu.stat").write_text("usage_usec 10\nnr_periods 100\nnr_throttled 90\n")
    (path / "memory.events").write_text("low 0\nhigh 3\nmax 4\noom 0\n")
    (path / "pids.events").write_text("max 5\n")
    return path


def codes(limits: GroupLimits) -> list[tuple[str, str]]:
    return [(found.code, found.problem) for found in limits.look()]


def test_a_limit_that_is_reached_is_told_for_a_minute(group: Path, tmp_path: Path) -> None:
    limits = GroupLimits(tmp_path / "own", tmp_path)
    assert codes(limits) == [], "what was before natmirror looked does not count"
    (group / "cpu.stat").write_text("nr_periods 200\nnr_throttled 130\n")
    (group / "memory.events").write_text("low 0\nhigh 4\nmax 6\noom 0\n")
    (group / "pids.events").write_text("max 7\n")
    for _ in range(6):
        told = dict(codes(limits))
        assert list(told) == ["cpu-throttled", "memory-short", "processes-refused"]
        assert f"the CPU quota of {group} was used up in 40 of 100 periods" in told["cpu-throttled"]
        assert "was reached 3 times" in told["memory-short"]
        assert "has refused 2 " in told["processes-refused"]
    assert codes(limits) == []


def test_a_quota_that_is_rarely_used_up_is_not_told(group: Path, tmp_path: Path) -> None:
    limits = GroupLimits(tmp_path / "own", tmp_path)
    assert codes(limits) == []
    (group / "cpu.stat").write_text("nr_periods 200\nnr_throttled 115\n")
    assert codes(limits) == []


def test_a_group_without_limits_or_files_is_none_of_these(tmp_path: Path) -> None:
    limits = GroupLimits(tmp_path / "own", tmp_path)
    assert codes(limits) + codes(limits) == []
    (tmp_path / "own").write_text("0::/nowhere\nnonsense\n")
    assert codes(limits) + codes(limits) == []
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "pids.events").write_text("nonsense\n")
    assert codes(limits) + codes(limits) == []
