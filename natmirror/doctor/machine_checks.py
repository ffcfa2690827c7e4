"""What a start of natmirror needs: rules, programs, rights, the kernel's support. Each function yields findings."""

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from natmirror.doctor.subject import NotCheckedError, NothingToCheckError, Subject
from natmirror.errors import HostError
from natmirror.findings import Finding, SetupCode
from natmirror.linux import instance, iptables, nftables, setup
from natmirror.linux.cores import thread_count
from natmirror.linux.memory_limit import most_memory
from natmirror.linux.queue_readers import taken_queues

_PARTS = {"natmirror._ffi": "C extension", "netfilterqueue": "library for queues (netfilterqueue)"}


def rules_file(subject: Subject) -> Iterator[Finding]:
    """The rules file can be used."""
    if subject.named_rules is None and subject.status is None and not subject.rules_path.exists():
        raise NotCheckedError(f"there is no {subject.rules_path}: name the rules file with --rules")
    if subject.rules_error:
        yield SetupCode.RULES_WRONG.found(error=subject.rules_error)
        return
    for warning in subject.rules().warnings:
        yield SetupCode.RULES_DOUBTFUL.found(warning=warning, path=subject.rules_path)


def parts(subject: Subject) -> Iterator[Finding]:
    """natmirror is built completely."""
    for module, part in _PARTS.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield SetupCode.NO_EXTENSION.found(part=part, error=error)


def programs(subject: Subject) -> Iterator[Finding]:
    """The programs that natmirror runs are installed."""
    try:
        backend = subject.firewall.backend
    except HostError as error:
        yield SetupCode.NO_IPTABLES.found(program="iptables", error=error)
    else:
        for program in (f"iptables-{backend}-restore", f"iptables-{backend}-save"):
            if shutil.which(program) is None:
                yield SetupCode.NO_IPTABLES.found(program=program, error="there is no such program")
    if shutil.which("nft") is None:
        yield SetupCode.NO_NFT.found(error="there is no such program")
    if not subject.rules_error and subject.rules().ha is not None and shutil.which("keepalived") is None:
        yield SetupCode.NO_KEEPALIVED.found(path=subject.rules_path)


def rights(subject: Subject) -> Iterator[Finding]:
    """root has the capabilities that natmirror needs."""
    if missing := setup.missing_capabilities():
        if os.geteuid():
            subject.need_rights()
        yield SetupCode.NO_RIGHTS.found(capabilities=", ".join(missing))


def tun(subject: Subject) -> Iterator[Finding]:
    """The kernel offers TUN devices."""
    try:
        setup.open_tun()
    except PermissionError:
        subject.need_rights()
        yield SetupCode.NO_TUN.found(error="permission denied")
    except OSError as error:
        yield SetupCode.NO_TUN.found(error=error.strerror)


def queues(subject: Subject) -> Iterator[Finding]:
    """The kernel offers NFQUEUE, and no other program reads natmirror's queues."""
    subject.need_rights()
    numbers = list(setup.queue_numbers(subject.rules()))
    try:
        taken = taken_queues(numbers)
    except OSError as error:
        yield SetupCode.NO_QUEUES.found(error=error.strerror or error)
        return
    if subject.owner is None:
        for number in sorted(taken):
            yield SetupCode.QUEUE_TAKEN.found(number=number, owner=instance.queue_owner(number) or "an unknown one")


def iptables_support(subject: Subject) -> Iterator[Finding]:
    """iptables and the kernel take natmirror's rules."""
    subject.need_rights()
    rules = subject.rules()
    try:
        backend, firewall = subject.firewall.backend, subject.firewall
        refused = firewall.unsupported(rules, thread_count(rules))
    except HostError as error:
        if not shutil.which("iptables"):
            raise NotCheckedError("iptables is missing") from None
        backend, refused = subject.backend or "nft", str(error)
    if refused:
        yield SetupCode.IPTABLES_REFUSES.found(backend=backend, error=refused, path=subject.rules_path)


def nft_support(subject: Subject) -> Iterator[Finding]:
    """nft and the kernel take natmirror's table."""
    subject.need_rights()
    rules = subject.rules()
    if shutil.which("nft") is None:
        raise NotCheckedError("nft is missing")
    try:
        nftables.test(rules)
    except HostError as error:
        yield SetupCode.NFT_REFUSES.found(error=error, path=subject.rules_path)


def leftovers(subject: Subject) -> Iterator[Finding]:
    """An earlier natmirror has left nothing behind."""
    if subject.owner is not None:
        raise NothingToCheckError("natmirror runs, and keeps its rules itself")
    subject.need_rights()
    names = iptables.left_behind() if shutil.which("iptables") else []
    if shutil.which("nft") and nftables.is_left_behind():
        names.append("nft: table ip natmirror")
    if names:
        yield SetupCode.LEFT_BEHIND.found(names=", ".join(names))


def descriptors(subject: Subject) -> Iterator[Finding]:
    """natmirror may open enough files."""
    rules = subject.rules()
    pid = None if subject.status is None else int(subject.status["pid"])
    try:
        limit = setup.descriptor_limit(pid)
    except PermissionError:
        raise NotCheckedError("run natmirror doctor as root") from None
    needed = setup.descriptors_needed(rules)
    if limit < needed:
        process = "a program that this shell starts" if pid is None else "the running natmirror"
        yield SetupCode.FEW_DESCRIPTORS.found(process=process, limit=limit, needed=needed)


def memory(subject: Subject) -> Iterator[Finding]:
    """This host has the memory that natmirror may take."""
    most, total = most_memory(subject.rules()), setup.total_memory()
    if most > total:
        yield SetupCode.LITTLE_MEMORY.found(most=most >> 20, total=total >> 20)


def clock(subject: Subject) -> Iterator[Finding]:
    """The clock of a host of a pair is kept right."""
    if subject.rules().ha is None:
        raise NothingToCheckError("the rules have no pair")
    if not setup.clock_is_set():
        yield SetupCode.CLOCK_NOT_SET.found()


def api_socket(subject: Subject) -> Iterator[Finding]:
    """The API answers, and only to those who may command natmirror."""
    if subject.owner is None:
        raise NothingToCheckError("natmirror does not run")
    if subject.silence:
        yield SetupCode.API_SILENT.found(owner=subject.owner, error=subject.silence)
        return
    mode = Path(subject.api).stat().st_mode
    if mode & 0o002:
        yield SetupCode.API_OPEN.found(path=subject.api, mode=f"{mode & 0o777:o}")
