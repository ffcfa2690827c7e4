"""Gathers a dump: its parts, and what replaces addresses, names and secrets in them."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from natmirror.support import host_parts
from natmirror.support.collecting import Collected, collect
from natmirror.support.own_parts import RULES_FILE, OwnParts
from natmirror.support.scrubber import Scrubber

_KEY_LEN = 32


def gather(api: Path, rules: Path | None) -> tuple[list[Collected], Scrubber]:
    """Return the parts as they were got, and what replaces in them. ``api`` and ``rules`` as in OwnParts."""
    found = collect([*OwnParts(api, rules).parts(), *host_parts.parts()])
    documents = [one.content for one in found if one.is_document]
    texts = [one.error or one.content for one in found if not one.is_document] + [json.dumps(one) for one in documents]
    file = next((one.content for one in found if one.part.file == RULES_FILE and not one.error), "")
    documents.append(_parsed(file))
    return found, Scrubber(os.urandom(_KEY_LEN), texts, documents, file, _own_names())


def _parsed(rules: str) -> Any:
    """Return the rules file as values, for its names; None where it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    with suppress(YAMLError, ValueError):
        return YAML(typ="safe", pure=True).load(rules)
    return None


def _own_names() -> list[str]:
    """Return the names of this host, with its domain and without."""
    name = socket.gethostname()  # not getfqdn(), which may wait for a name server
    return [one for one in dict.fromkeys((name, name.partition(".")[0])) if one and one != "localhost"]
