"""The table of rules keys, its page and its JSON Schema: each says what the parser does."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from natmirror.errors import RulesError
from natmirror.reference import rules, rules_schema
from natmirror.rules import (
    Backend,
    Health,
    Host,
    Mirror,
    Pair,
    PerClient,
    Pool,
    Rules,
    Service,
    Side,
    Timeouts,
    load_rules,
    parse_rules,
)
from natmirror.rules.keys import SECTIONS, TOP
from natmirror.rules.pool_keys import SORRY
from natmirror.rules.scalars import ValueType
from natmirror.rules.tables import Key, ListOf, Section
from natmirror.rules.yaml_reader import parse

RULES_FILES = sorted((Path(__file__).parents[2] / "rules").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json.loads(rules_schema.page()))
MODELS = {
    "rules": Rules,
    "timeouts": Timeouts,
    "service": Service,
    "per-client": PerClient,
    "pool": Pool,
    "backend": Backend,
    "sorry": Backend,
    "health": Health,
    "mirror": Mirror,
    "ha": Pair,
    "host": Host,
    "side": Side,
}
DERIVED = {
    "path",
    "warnings",
    "copies",
    "sessions",
    "throttles",
    "speaks_openflow",
    "strips_mptcp",
    "begins_again",
    "is_compared",
} | {
    "is_paused"  # a command sets it
}
"""Fields of the model that are no keys."""
KEYS = [pytest.param(section, key, id=f"{section.title}-{key.name}") for section in SECTIONS for key in section.keys]

GOOD = """\
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends: [{name: c1, address: 10.20.0.11}]
    mirrors: [{name: master, address: 10.20.0.13}]
"""
BAD = {
    "an unknown key": ("port: 6653", "prt: 6653"),
    "a missing key": ("    port: 6653\n", ""),
    "a port out of range": ("port: 6653", "port: 70000"),
    "a port that is a word": ("port: 6653", "port: many"),
    "a network that is no network": ("10.10.0.0/24", "switches"),
    "networks that are no list": ("[10.10.0.0/24]", "10.10.0.0/24"),
    "an empty list": ("[10.10.0.0/24]", "[]"),
    "an unknown word": ("    pool:\n", "    pool:\n      balance: magic\n"),
    "a key of the old name": ("switches:", "queues: cores\nswitches:"),
    "a number of threads between powers of two": ("switches:", "threads: 3\nswitches:"),
    "a duration without a unit": ("10.20.0.13}", "10.20.0.13, linger: 5}"),
    "a size with an unknown unit": ("10.20.0.13}", "10.20.0.13, buffer: 16MB}"),
    "a size that is too small": ("10.20.0.13}", "10.20.0.13, buffer: 1}"),
    "a word for a boolean": ("10.20.0.13}", "10.20.0.13, direct: sometimes}"),
    "a relative path": ("switches:", "known-switches: switches.json\nswitches:"),
    "a mapping that is a word": ("[{name: c1, address: 10.20.0.11}]", "[c1]"),
    "a percentage above 100": ("10.20.0.13}", "10.20.0.13, sample: 101%}"),
    "hash without maglev": ("    pool:\n", "    pool:\n      balance: round-robin\n      hash: address\n"),
    "weight with priority": (
        "    pool:\n      backends: [{name: c1,",
        "    pool:\n      balance: priority\n      backends: [{name: c1, weight: 2,",
    ),
    "an exec check without a command": ("    pool:\n", "    pool:\n      health: {check: exec}\n"),
    "a command without an exec check": ("    pool:\n", "    pool:\n      health: {check: tcp, command: [/bin/true]}\n"),
    "a throttle limit without throttling": ("10.20.0.13}", "10.20.0.13, throttle-limit: 1s}"),
    "a session's key for a raw mirror": ("10.20.0.13}", "10.20.0.13, unsolicited: pass}"),
    "a session's reconnect for a raw mirror": ("10.20.0.13}", "10.20.0.13, reconnect: next-message}"),
    "a raw mirror's reconnect for a session": (
        "10.20.0.13}",
        "10.20.0.13, protocol: openflow, reconnect: next-segment}",
    ),
    "reconnect with throttling": ("10.20.0.13}", "10.20.0.13, reconnect: next-segment, when-behind: throttle}"),
    "throttling for a session": ("10.20.0.13}", "10.20.0.13, protocol: openflow, when-behind: throttle}"),
    "direct with a source": ("10.20.0.13}", "10.20.0.13, direct: true, source: 10.20.0.1}"),
    "throttling without a pool": (
        "    pool:\n      backends: [{name: c1, address: 10.20.0.11}]\n    mirrors: [{",
        "    mirrors: [{when-behind: throttle, ",
    ),
    "neither a pool nor mirrors": (
        "    pool:\n      backends: [{name: c1, address: 10.20.0.11}]\n"
        "    mirrors: [{name: master, address: 10.20.0.13}]\n",
        "",
    ),
}


def as_json(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def inner(of: ValueType[Any]) -> ValueType[Any]:
    return of.item if isinstance(of, ListOf) else of


def test_the_tables_are_all_that_can_be_reached_from_the_top() -> None:
    found = [TOP]
    for section in found:
        found += [one for key in section.keys if isinstance(one := inner(key.type), Section) and one not in found]
    assert {section.title for section in found} == {section.title for section in SECTIONS} == set(MODELS)


@pytest.mark.parametrize("section", [one for one in SECTIONS if one is not SORRY], ids=lambda section: section.title)
def test_the_keys_are_the_fields_of_the_model(section: Section) -> None:
    names = {field.name for field in fields(MODELS[section.title])} - DERIVED
    assert {key.name.replace("-", "_") for key in section.keys} == names


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_default_is_the_models(section: Section, key: Key) -> None:
    [field] = [field for field in fields(MODELS[section.title]) if field.name == key.name.replace("-", "_")]
    if field.default is not MISSING:
        assert field.default == key.default


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_example_and_the_default_can_be_read(section: Section, key: Key) -> None:
    key.type.read(parse(key.example, "example"))
    if not key.is_required and not key.absent:
        assert key.type.read(parse(key.default_text, "default")) == key.default


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_sentence_is_one_or_more_sentences(section: Section, key: Key) -> None:
    assert re.fullmatch(r"[A-Z].*\.", key.sentence)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_the_page_has_each_mapping_and_each_link_of_it_leads_there(section: Section) -> None:
    page = rules.page()
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert len(titles) == len(SECTIONS)
    anchors = {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= anchors
    for key in section.keys:
        assert f"| `{key.name}` | " in page


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_schema_takes_each_example_and_default(section: Section, key: Key) -> None:
    place = VALIDATOR.schema if section is TOP else VALIDATOR.schema["$defs"][section.title]
    described = place["properties"][key.name]
    for value in (*described["examples"], *([described["default"]] if "default" in described else [])):
        VALIDATOR.evolve(schema={**described, "$defs": VALIDATOR.schema["$defs"]}).validate(value)


@pytest.mark.parametrize("path", RULES_FILES, ids=lambda path: path.name)
def test_the_schema_takes_the_rules_of_the_repository(path: Path) -> None:
    load_rules(path)
    VALIDATOR.validate(as_json(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("mistake", BAD)
def test_the_schema_refuses_what_the_parser_refuses(mistake: str) -> None:
    parse_rules(GOOD)
    VALIDATOR.validate(as_json(GOOD))
    old, new = BAD[mistake]
    assert old in GOOD
    bad = GOOD.replace(old, new, 1)
    with pytest.raises(RulesError):
        parse_rules(bad)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(as_json(bad))
