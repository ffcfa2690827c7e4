"""Our nftables table as data, and how it changes with the rules; no program is run."""

import pytest

from natmirror.errors import HostError
from natmirror.linux import nftables
from natmirror.linux.nftables import MARKS, ServiceBackend, Translation, plan
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Rules, parse_rules
from tests.helpers.nftables import Nft
from tests.helpers.support import RULES

C1, C2, C3 = "10.20.0.11", "10.20.0.12", "10.20.0.19"


def rules(*names: str) -> Rules:
    """Return the usual rules with these backends."""
    backends = "".join(f"        - {{name: c{place}, address: {name}}}\n" for place, name in enumerate(names))
    head, _, rest = RULES.partition("        - {name: c1")
    return parse_rules(head + backends + rest[rest.index("    mirrors:") :])


def service(of: Rules) -> Endpoint:
    return endpoint_of(of.services[0])


def pairs(of: Rules) -> list[ServiceBackend]:
    pool = of.services[0].pool
    assert pool is not None
    return [(service(of), endpoint_of(backend)) for backend in pool.members]


def test_each_pair_has_a_mark_and_each_direction_maps_it_to_an_endpoint() -> None:
    text = plan(parse_rules(RULES.replace(f"{C2}}}", f"{C2}, port: 7000}}")))
    assert (
        f"map backend-address {{ type mark : ipv4_addr; elements = {{ 0x6e6d0001 : {C1}, 0x6e6d0002 : {C2} }}; }}"
        in text
    )
    assert "map backend-port { type mark : inet_service; elements = { 0x6e6d0001 : 6653, 0x6e6d0002 : 7000 }; }" in text
    assert "0x6e6d0001 : 10.10.0.100, 0x6e6d0002 : 10.10.0.100 }; }" in text
    assert text.index("hook prerouting priority -299") < text.index("ip daddr set") < text.index("drop")
    assert text.index("hook forward priority -149") < text.index("ip saddr set")


def test_rules_without_pools_have_maps_without_elements() -> None:
    watched = parse_rules(
        "switches: [10.10.0.0/24]\nservices: [{name: w, address: 10.10.0.9, port: 80, mirrors: "
        "[{name: m, address: 10.20.0.13}]}]"
    )
    assert "map backend-port { type mark : inet_service; }" in plan(watched)


def test_marks_stay_while_rules_change_and_are_given_again_when_they_are_free(nft: Nft) -> None:
    table = Translation()
    before, after = rules(C1, C2), rules(C2, C3)
    table.install(before)
    first, second = pairs(before)
    assert table.marks(before) == {first: MARKS + 1, second: MARKS + 2}
    table.extend(after)
    third = pairs(after)[1]
    assert table.marks(after) == {second: MARKS + 2, third: MARKS + 3}
    assert table.marks(before)[first] == MARKS + 1, "the table has the mark as long as workers may give it"
    table.reduce(after)
    assert first not in table.marks(before)
    table.extend(rules(C2, C3, C1))
    assert table.marks(before)[first] == MARKS + 1
    assert nft.fed[0].startswith("table ip natmirror {}\ndelete table ip natmirror\ntable ip natmirror {")
    assert nft.fed[1] == (
        "add element ip natmirror service-address { 0x6e6d0003 : 10.10.0.100 }\n"
        "add element ip natmirror service-port { 0x6e6d0003 : 6653 }\n"
        f"add element ip natmirror backend-address {{ 0x6e6d0003 : {C3} }}\n"
        "add element ip natmirror backend-port { 0x6e6d0003 : 6653 }\n"
    )
    assert nft.fed[2].splitlines()[0] == "delete element ip natmirror service-address { 0x6e6d0001 }"


def test_a_table_that_is_installed_again_has_the_marks_that_threads_still_give(nft: Nft) -> None:
    """Packets pass before the threads learn of the new table: none may go to a wrong backend."""
    table = Translation()
    table.install(rules(C1, C2))
    after = rules(C2, C3)
    table.extend(after)
    table.reduce(after)
    given = table.marks(after)
    table.install(after)
    assert table.marks(after) == given
    assert f"{{ 0x6e6d0002 : {C2}, 0x6e6d0003 : {C3} }}" in nft.fed[-1]


def test_nft_is_not_run_where_nothing_changes(nft: Nft) -> None:
    table = Translation()
    table.install(rules(C1, C2))
    table.extend(rules(C1))
    table.reduce(rules(C1, C2))
    assert len(nft.fed) == 1


def test_after_a_refusal_the_marks_are_as_they_were(nft: Nft) -> None:
    table = Translation()
    table.install(rules(C1))
    nft.refuses = True
    with pytest.raises(HostError, match="it refuses"):
        table.extend(rules(C1, C2))
    assert len(table.marks(rules(C1, C2))) == 1
    with pytest.raises(HostError, match="it refuses"):
        table.reduce(rules(C2))
    assert len(table.marks(rules(C1, C2))) == 1


def test_without_the_program_nft_there_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="nft is missing: install the package nftables"):
        Translation().install(rules(C1))
    assert nftables.remove() == []


def test_a_table_without_its_rules_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nft flush table` leaves it."""
    ran: list[str] = []

    def run(*arguments: str, text: str | None = None) -> str:
        ran.append(text or " ".join(arguments))
        return "table ip natmirror {\n\tmap backend-address {\n\t\ttype mark : ipv4_addr\n\t}\n}\n"

    monkeypatch.setattr(nftables, "_run", run)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert nftables.remove() == ["nft: table ip natmirror"]
    assert ran[-1] == "delete table ip natmirror\n"


LISTED = """table ip natmirror {
	map backend-address {
		type mark : ipv4_addr
		elements = { 0x6e6d0001 : 10.20.0.11,
			0x6e6d0002 : 10.20.0.12 }
	}

	map backend-port {
		type mark : inet_service
		elements = { 0x6e6d0001 : 6653, 0x6e6d0002 : 6653 }
	}

	map service-port {
		type mark : inet_service
		elements = { 0x6e6d0001 : 6653, 0x6e6d0002 : 6653 }
	}

	chain to-backend {
		ip daddr set meta mark map @backend-address drop
	}

	chain to-service {
		ip saddr set meta mark map @service-address drop
	}
}
"""


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("", "", []),
        (
            "{ 0x6e6d0001 : 6653, 0x6e6d0002 : 6653 }\n\t}\n\n\tchain",
            "{ 0x6e6d0002 : 6653, 0x6e6d0001 : 6653 }\n\t}\n\n\tchain",
            [],
        ),
        (LISTED, "", ["the table is missing"]),
        ("10.20.0.12", "10.20.0.19", ["it lacks: elements = {", "it has, besides: elements = {"]),
        (
            "\t\telements = { 0x6e6d0001 : 6653, 0x6e6d0002 : 6653 }\n\t}\n\n\tmap",
            "\t}\n\n\tmap",
            ["it lacks: elements = {"],
        ),
        ("\t\tip daddr set meta mark map @backend-address drop\n", "", ["it lacks: ip daddr set"]),
        ("ip natmirror {\n", "ip natmirror {\n\tflags dormant\n", ["it has, besides: flags dormant"]),
    ],
)
def test_each_change_of_the_content_is_a_difference_and_the_order_of_elements_is_not(
    nft: Nft, monkeypatch: pytest.MonkeyPatch, before: str, after: str, difference: list[str]
) -> None:
    table = Translation()
    monkeypatch.setattr(nftables, "_list", lambda: LISTED)
    table.install(rules(C1, C2))
    assert table.differences() == []
    changed = LISTED.replace(before, after, 1) if before else LISTED
    assert (changed != LISTED) is bool(before)
    monkeypatch.setattr(nftables, "_list", lambda: changed or None)
    found = table.differences()
    assert [text[: len(start)] for text, start in zip(found, difference, strict=True)] == difference


def test_a_table_that_another_program_changes_during_the_installation_is_not_taken_for_right(
    nft: Nft, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Translation()
    for listed in (None, LISTED.replace("0x6e6d0002", "0x6e6d0001"), LISTED.replace("@backend-address", "")):
        monkeypatch.setattr(nftables, "_list", lambda listed=listed: listed)
        table.install(rules(C1, C2))
        assert table.differences() == ["it was changed while it was installed"]


def test_with_more_pairs_than_marks_some_pairs_have_no_mark(monkeypatch: pytest.MonkeyPatch, nft: Nft) -> None:
    monkeypatch.setattr(nftables, "_MAX_MARKS", 2)
    table = Translation()
    table.install(rules(C1, C2, C3))
    assert sorted(table.marks(rules(C1, C2, C3)).values()) == [MARKS + 1, MARKS + 2]
