"""Run a command as the systemd unit would: confine.py UID OWNED COMMAND...

Run this as root, in a mount namespace of its own. OWNED is a directory that stands for the unit's own ones; the command
may write only there. restrict.py, which runs next, applies the unit's limits on system calls and address families.
"""

import os
import resource
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.helpers.unitfile import lines, settings
from tests.live.scene import ROOT

HIDDEN = ("/root", "/home", "/tmp", "/run")  # ProtectHome, PrivateTmp; of /run only what is made here is needed
STAGE = Path("/mnt")
KEPT_WRITABLE = ("/dev", "/proc", str(STAGE))
READ_ONLY = ("/proc/sys", "/sys")  # ProtectKernelTunables
TUN = Path("/dev/net/tun")


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def main() -> None:
    user, owned, command = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    shown = [Path(sys.base_prefix), ROOT, owned]
    mount("-t", "tmpfs", "-o", "mode=755", "stage", STAGE)
    for number, path in enumerate(shown):
        (STAGE / str(number)).mkdir()
        mount("--rbind", path, STAGE / str(number))
    for hidden in HIDDEN:
        mount("-t", "tmpfs", "-o", "mode=755", "hidden", hidden)
    for number, path in enumerate(shown):
        path.mkdir(parents=True, exist_ok=True)
        mount("--rbind", STAGE / str(number), path)
    # As tmpfiles.d and udev make them.
    lock = Path("/run/xtables.lock")
    lock.touch()
    lock.chmod(0o640)
    os.chown(lock, 0, user)
    [prepare] = lines("ExecStartPre")
    assert prepare.startswith("+-"), "as root, and a failure does not matter: not every kernel has the file"
    subprocess.run(prepare[2:].replace(" natmirror ", f" {user} ").split(), check=False)
    device = STAGE / "tun"
    os.mknod(device, stat.S_IFCHR | 0o666, os.stat(TUN).st_rdev)
    device.chmod(0o666)
    mount("--bind", device, TUN)
    for tree in READ_ONLY:
        mount("--bind", tree, tree)
        mount("-o", "remount,bind,ro", tree)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        is_shown = os.path.ismount(point)  # else another mount lies over it
        if is_shown and point != str(owned) and not point.startswith(KEPT_WRITABLE):
            mount("-o", "remount,bind,ro", point)
    ambient, bounding = (
        ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in settings(key))
        for key in ("AmbientCapabilities", "CapabilityBoundingSet")
    )
    identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    capabilities = [f"--inh-caps=-all,{ambient}", f"--ambient-caps=-all,{ambient}", f"--bounding-set=-all,{bounding}"]
    [priority] = settings("LimitRTPRIO")
    with suppress(ValueError):  # not every root may raise a limit
        resource.setrlimit(resource.RLIMIT_RTPRIO, (int(priority), int(priority)))
    restrict = [sys.executable, "-m", "tests.live.apps.restrict"]
    os.chdir(ROOT)
    os.execvp("setpriv", ["setpriv", *identity, *capabilities, *restrict, *command])


if __name__ == "__main__":
    main()
