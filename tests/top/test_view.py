"""What the operator wants to see, as questions to the API."""

import pytest

from natmirror.top.view import INTERVALS, ORDERS, View, parse_filter

NAMES = {
    "service": {"openflow", "web"},
    "backend": {"c1", "c2", "web"},
    "mirror": {"master"},
    "state": {"established", "syn-sent"},
}


def test_the_worst_legs_are_asked_for_alone() -> None:
    view = View(service="web", filter={"mirror": "master"})
    expected = {"sort": "-lag_seconds", "lagging": 0.001, "limit": 7, "service": "web", "mirror": "master"}
    assert view.question(7) == expected
    view.is_descending = False
    assert view.question(7) == {"sort": "lag_seconds", "limit": 7, "service": "web", "mirror": "master"}


def test_each_column_has_its_own_first_direction() -> None:
    view = View()
    sorts = []
    for _ in ORDERS:
        view.sort_by_next(1)
        sorts.append(view.question(1)["sort"])
    assert sorts[0] == "-retransmits" and "client" in sorts and sorts[-1] == "-lag_seconds"
    view.sort_by_next(-1)
    assert view.question(1)["sort"] == "state"


def test_the_pace_has_ends() -> None:
    view = View(interval=1.3)
    view.change_interval(-1)
    assert view.interval == INTERVALS[0]
    for _ in INTERVALS:
        view.change_interval(1)
    assert view.interval == INTERVALS[-1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("10.10.0.0/24", {"client": "10.10.0.0/24"}),
        ("10.10.0.7:4001 c1 syn-sent", {"client": "10.10.0.7:4001", "backend": "c1", "state": "syn-sent"}),
        ("backend=web service=web master", {"backend": "web", "service": "web", "mirror": "master"}),
    ],
)
def test_words_are_understood_by_what_they_name(text: str, wanted: dict[str, str]) -> None:
    assert parse_filter(text, NAMES) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.10.0.999", "10.10.0.999 is no address, network, or address with a port"),
        ("mastr", "there is no mastr: did you mean master?"),
        ("backend=c9", "there is no backend c9: there are c1, c2, web"),
        ("bakend=c1", "there is no bakend: did you mean backend?"),
        ("web", "web is a service and a backend: write service=web"),
    ],
)
def test_a_word_that_names_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError) as found:
        parse_filter(text, NAMES)
    assert str(found.value).startswith(why)
