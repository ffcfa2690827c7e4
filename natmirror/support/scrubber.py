"""Replaces addresses, names and secrets in all texts of a dump alike.

A first pass over all texts finds what there is, a second one replaces it. Addresses are found by their looks, each once
in one scan, so that no pseudonym is replaced again; numbers in hexadecimal only if they are an address that stands
elsewhere in the dump too, because most are something else.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from natmirror.support import names, secrets
from natmirror.support.addresses import Address, AddressMap, Network

_HEX = "[0-9A-Fa-f]"
_ADDRESSES = rf"""
    (?<![\w:.-])(?P<groups>{_HEX}{{2}}(?:(?:[:]{_HEX}{{2}}){{5,7}}|(?:-{_HEX}{{2}}){{5}}))(?![\w:-])
    |(?<![\w.])(?P<dotted>{_HEX}{{4}}\.{_HEX}{{4}}\.{_HEX}{{4}})(?![\w.])
    |(?<![\w:.])(?P<v6>(?:{_HEX}{{1,4}}:|:(?=:)){_HEX}{{0,4}}:[0-9A-Fa-f:]*(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}})?)
        (?P<v6_len>/\d{{1,3}})?(?![\w:])
    |(?<![\d.])(?P<v4>\d{{1,3}}(?:\.\d{{1,3}}){{3}})(?!\d|\.\d)(?:/(?P<v4_len>\d{{1,2}})(?![\d.]))?
    """
_WORDS = rf"(?<!\w)(?P<prefix>0[xX]|)(?P<digits>{_HEX}{{4,32}})(?!\w)"
_DATAPATH = re.compile(r"\b(?P<before>(?:datapath|dpid)(?:[ _-]id)?\"?[ :=]+\"?(?:0x)?)(?P<number>[0-9A-Fa-f]{1,16})\b")
_COMMENT = re.compile(r"""(?P<before>(?<!-m )\bcomment )(?P<text>"(?:[^"\\\n]|\\.)*"|\S+)""")
_ALIAS = re.compile(r"(?P<before>^\s+alias ).+$", re.MULTILINE)
_HOME = re.compile(r"(?P<before>/home/)[^/\s\"']+")
_OWN_COMMENT = re.compile(r'"?natmirror\b')
_DATAPATH_KEY = "datapath_id"
_DATAPATH_DIGITS = 16


class Scrubber:
    """Replaces in texts. ``texts`` are all of the dump, ``documents`` those of them that are values for JSON, ``rules``
    is the rules file: its secrets are replaced wherever they stand. ``hosts`` are the names of hosts that are known
    otherwise. ``key`` is random, at most 64 bytes."""

    def __init__(
        self,
        key: bytes,
        texts: Iterable[str],
        documents: Iterable[Any] = (),
        rules: str = "",
        hosts: Iterable[str] = (),
    ) -> None:
        texts = list(texts)
        found = _Found()
        for text in texts:
            found.look_at(text)
        self._addresses = AddressMap(key, found.addresses, found.networks)
        self._macs, self._words = found.macs, found.words()
        documents = list(documents)
        self._datapath_ids = found.datapath_ids | {one for document in documents for one in _datapath_ids(document)}
        self._secrets = set(secrets.find(rules))
        named = [one for document in documents for one in names.find(document)]
        self.names = names.NameMap([*named, *((host, "host") for host in hosts)])
        self._comments: dict[str, str] = {}
        self.replaced: dict[str, str] = {}
        """What was replaced, and what stands in its place; without secrets."""

    def document(self, value: Any) -> str:
        """Return values for JSON as text, replaced."""
        return self.text(json.dumps(self._datapaths(self.names.replace_in(value)), indent=1, ensure_ascii=False))

    def text(self, text: str, *, has_datapaths: bool = True) -> str:
        """Return a text, replaced. ``has_datapaths``: a number of 16 hexadecimal digits is a datapath id, whether it is
        known or not; else it is a mask or a counter of the kernel, unless it is known."""
        text = secrets.remove(text, self._secrets)
        text = _COMMENT.sub(self._comment, text)
        text = _ALIAS.sub(r"\g<before>removed", text)
        text = _HOME.sub(r"\g<before>user", text)
        text = _DATAPATH.sub(self._datapath, text)
        looked = partial(self._looked, has_datapaths=has_datapaths)
        return _looks(self.names.pattern_of(text)).sub(looked, self.names.replace_common(text))

    def mapping(self) -> dict[str, str]:
        """Return what was replaced, and what stands in its place."""
        return {**self.names.pseudonyms, **self.replaced}

    def _note(self, original: str, pseudonym: str) -> str:
        if original != pseudonym:
            self.replaced[original] = pseudonym
        return pseudonym

    def _datapaths(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: self._addresses.datapath(one)
                if key == _DATAPATH_KEY and isinstance(one, int)
                else self._datapaths(one)
                for key, one in value.items()
            }
        return [self._datapaths(one) for one in value] if isinstance(value, list) else value

    def _comment(self, match: "re.Match[str]") -> str:
        if _OWN_COMMENT.match(match["text"]):
            return match[0]
        pseudonym = self._comments.setdefault(match["text"], f"comment-{len(self._comments) + 1}")
        return f'{match["before"]}"{pseudonym}"'

    def _datapath(self, match: "re.Match[str]") -> str:
        digits = match["number"]
        pseudonym = f"{self._addresses.datapath(int(digits, 16)):x}"
        return match["before"] + self._note(digits, pseudonym.rjust(len(digits), "0"))

    def _looked(self, match: "re.Match[str]", has_datapaths: bool) -> str:
        if match["groups"]:
            return self._groups(match["groups"])
        if match["dotted"]:
            mac = self._addresses.mac(bytes.fromhex(match["dotted"].replace(".", ""))).hex()
            return self._note(match["dotted"], f"{mac[:4]}.{mac[4:8]}.{mac[8:]}")
        for version in ("v4", "v6"):
            if match[version]:
                return self._address(match[0], *_parsed(match, version))
        return self.names.of(match["name"]) if match["name"] else self._word(match, has_datapaths)

    def _groups(self, text: str) -> str:
        sign = text[2]
        value = bytes.fromhex(text.replace(sign, ""))
        if len(value) == 6:
            mapped = self._addresses.mac(value)
        elif len(value) == 8:
            mapped = self._addresses.datapath(int.from_bytes(value)).to_bytes(8)
        else:
            return text
        return self._note(text, mapped.hex(sign))

    def _address(self, text: str, address: Address | None, network: Network | None) -> str:
        if address is None:
            return text
        if network is not None and network.network_address == address:
            return self._note(text, str(self._addresses.network(network)))
        mapped = self._addresses.address(address)
        if mapped == address:
            return text  # as it was spelled
        return self._note(text, f"{mapped}{'' if network is None else f'/{network.prefixlen}'}")

    def _word(self, match: "re.Match[str]", has_datapaths: bool) -> str:
        """Return a number in hexadecimal, replaced if it is a datapath id or a known address."""
        digits = match["digits"]
        value, length = int(digits, 16), len(digits)
        form = self._words.get((value, "" if match["prefix"] else length))
        if form is not None:
            address, spell = form
            other = self._addresses.address(address)
            if other == address:
                return match[0]  # perhaps a mark: :: and 0x00000000 are the same number
            mapped = spell(other.packed)
        elif length == 12 and value.to_bytes(6) in self._macs:
            mapped = self._addresses.mac(value.to_bytes(6))
        elif length == _DATAPATH_DIGITS and (has_datapaths or value in self._datapath_ids):
            mapped = self._addresses.datapath(value).to_bytes(8)
        elif length == 32:
            mapped = self._addresses.address(IPv6Address(value)).packed
        else:
            return match[0]
        shown = mapped.hex().upper() if digits != digits.lower() else mapped.hex()
        return self._note(match[0], match["prefix"] + shown)


def _looks(names: str = "(?!)") -> "re.Pattern[str]":
    """Return the pattern of a scan: addresses come before names, of which some are a part of one, and names before
    numbers, which may be a part of a name."""
    return re.compile(f"{_ADDRESSES}|(?P<name>{names})|{_WORDS}", re.VERBOSE)


_LOOKS = _looks()
_Spell = Callable[[bytes], bytes]


class _Found:
    """The addresses in texts."""

    def __init__(self) -> None:
        self.addresses: set[Address] = set()
        self.networks: set[Network] = set()
        self.macs: set[bytes] = set()
        self.datapath_ids: set[int] = set()

    def look_at(self, text: str) -> None:
        for match in _LOOKS.finditer(text):
            if match["groups"]:
                value = bytes.fromhex(match["groups"].replace(match["groups"][2], ""))
                self.datapath_ids |= {int.from_bytes(value)} if len(value) == 8 else set()
                self.macs |= {value} if len(value) == 6 else set()
            elif match["dotted"]:
                self.macs.add(bytes.fromhex(match["dotted"].replace(".", "")))
            for version in ("v4", "v6"):
                address, network = _parsed(match, version)
                if address is not None:
                    self.addresses.add(address)
                    self.networks |= set() if network is None else {network}

    def words(self) -> Mapping[tuple[int, int | str], tuple[Address, _Spell]]:
        """Return the addresses by the numbers that stand for them in tables of the kernel, each with the count of
        hexadecimal digits, or nothing behind 0x: in the network's order, and in this machine's (in words of four
        bytes)."""
        found: dict[tuple[int, int | str], tuple[Address, _Spell]] = {}
        for address in self.addresses:
            for spell in (_reversed_words, bytes):
                value = int.from_bytes(spell(address.packed))
                for length in (2 * len(address.packed), ""):
                    found[value, length] = address, spell
        return found


def _datapath_ids(value: Any) -> Iterator[int]:
    """Yield the datapath ids in values for JSON."""
    if isinstance(value, dict):
        if isinstance(number := value.get(_DATAPATH_KEY), int):
            yield number
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _datapath_ids(one)


def _reversed_words(packed: bytes) -> bytes:
    return b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))


def _parsed(match: "re.Match[str]", version: str) -> tuple[Address | None, Network | None]:
    """Return the address that was found, and the network if a length stands behind it; None where it is none."""
    text, length = match[version], match[f"{version}_len"]
    address: Address | None = None
    network: Network | None = None
    if text:
        with suppress(ValueError):
            address = IPv4Address(text) if version == "v4" else IPv6Address(text)
    if address is not None and length:
        with suppress(ValueError):
            kind = IPv4Network if version == "v4" else IPv6Network
            network = kind(f"{address}/{length.lstrip('/')}", strict=False)
    return address, network
