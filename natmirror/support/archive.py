"""Writes a dump: everything replaced, an index in front, readable by its owner alone."""

import io
import json
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from natmirror import __version__
from natmirror.errors import HostError
from natmirror.support.collecting import Collected
from natmirror.support.scrubber import Scrubber

_MODE = 0o600
_INDEX = "README.txt"
_HOW = """\
What was replaced, the same way in all files:

- IPv4 and IPv6 addresses. Two addresses that begin with the same bits still do, so routes and networks make sense; the
  last octet of an IPv4 address is the true one. Loopback, link-local prefixes, multicast and masks stay.
- MAC addresses and datapath ids. Those that are replaced begin with another digit.
- Names of services, backends, mirrors and hosts: service-1, backend-1, mirror-1, host-1. A name that is one of
  natmirror's own words (openflow, master) is replaced only where it stands as a name.
- Passwords, keys, tokens, the user's part of URLs: SECRET or TOKEN. Comments of kernel rules: comment-1. Comments of
  the rules file are left out.

Ports, names of interfaces, marks, numbers and times are the true ones. There are no packets and no payloads in here.
Look through it before you pass it on: a name may also stand where no program can know that it is one.
"""


def require_absent(file: Path) -> None:
    """Raise HostError where a file exists already."""
    if os.path.lexists(file):
        raise HostError(f"{file} exists already: remove it, or name another file")


def write(file: Path, found: Sequence[Collected], scrubber: Scrubber, now: float) -> int:
    """Write the archive, a tar file that gzip has compressed; return its size in bytes. HostError where the file exists
    or cannot be written. ``now`` is the time in seconds since 1970."""
    texts = {one.part.file: _text(one, scrubber) for one in found}
    everything = {_INDEX: _index(found, texts, now), **texts}
    with _created(file) as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in everything.items():
            data = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"natmirror-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(now), _MODE
            archive.addfile(entry, io.BytesIO(data))
    return file.stat().st_size


def write_map(file: Path, scrubber: Scrubber) -> None:
    """Write what was replaced, as JSON. HostError as for write()."""
    with _created(file) as out:
        out.write(json.dumps(scrubber.mapping(), indent=1, sort_keys=True, ensure_ascii=False).encode())


def _created(file: Path) -> io.BufferedWriter:
    """Return a new file that only its owner may read."""
    require_absent(file)
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), "wb")
    except OSError as error:
        raise HostError(f"cannot write {file}: {error.strerror}") from None


def _text(one: Collected, scrubber: Scrubber) -> str:
    if one.error:
        return scrubber.text(f"not available: {one.error}\n")
    if one.is_document:
        return scrubber.document(one.content) + "\n"
    return scrubber.text(one.content, has_datapaths=not one.part.is_of_kernel)


def _index(found: Sequence[Collected], texts: dict[str, str], now: float) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now))
    lines = [
        f"natmirror support-dump {__version__}, {when}",
        "",
        "Files, with their lengths and how long each took:",
        "",
    ]
    width = max(len(name) for name in texts)
    for one in found:
        took = f"{one.seconds:.1f} s"
        lines.append(f"{one.part.file:{width}}  {len(texts[one.part.file]):>9}  {took:>7}  {one.part.sentence}")
        if one.error:
            lines.append(f"{'':{width}}  {texts[one.part.file].strip()}")
    return "\n".join([*lines, "", _HOW])
