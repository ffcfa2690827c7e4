"""Gathers a dump: its parts, and what replaces addresses, names and secrets in them."""

import json
import os
import socket
from pathlib import Path

from natmirror.support import host_parts
from natmirror.support.collecting import Collected, collect
from natmirror.support.own_parts import OwnParts
from natmirror.support.scrubber import Scrubber

_KEY_LEN = 32


def gather(api: Path, rules: Path | None) -> tuple[list[Collected], Scrubber]:
    """Return the parts as they were got, and what replaces in them. ``api`` and ``rules`` as in OwnParts."""
    found = collect([*OwnParts(api, rules).parts(), *host_parts.parts()])
    documents = [one.content for one in found if one.is_document]
    texts = [one.error or one.content for one in found if not one.is_document] + [json.dumps(one) for one in documents]
    return found, Scrubber(os.urandom(_KEY_LEN), texts, [*documents, *_rules_of(found)], _own_names())


def _rules_of(found: list[Collected]) -> list[object]:
    """Return the rules file as values, for its names; nothing where it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    for one in found:
        if one.part.file == "rules-file.yaml" and not one.error:
            try:
                return [YAML(typ="safe", pure=True).load(one.content)]
            except YAMLError:
                return []
    return []


def _own_names() -> list[str]:
    """Return the names of this host, with its domain and without."""
    name = socket.gethostname()  # not getfqdn(), which may wait for a name server
    return [one for one in dict.fromkeys((name, name.partition(".")[0])) if one and one != "localhost"]
