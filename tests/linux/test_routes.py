"""Questions to this machine's kernel about routes; they change nothing."""

from ipaddress import IPv4Address

from natmirror.linux.routes import Question, RouteSocket

LOCAL = IPv4Address("127.0.0.1")


def test_the_kernel_answers_each_question() -> None:
    some = [Question(IPv4Address(f"127.0.0.{last}"), LOCAL, dport=6653) for last in range(1, 41)]
    refused = Question(IPv4Address("240.0.0.1"), LOCAL, "lo")
    with RouteSocket() as routes:
        answers = routes.ask([*some, refused, *some, Question(LOCAL, link="no-such-link")])
    assert list(answers) == [*some, refused]
    assert answers[some[0]].is_local
    assert answers[some[39]].link == "lo"
    assert answers[some[39]].error == 0
    assert answers[refused].error != 0


def test_routes_that_refuse_and_permanent_neighbours_are_read() -> None:
    with RouteSocket() as routes:
        assert all(route.kind in str(route) for route in routes.refusing())
        assert routes.permanent_neighbours([(LOCAL, "lo"), (LOCAL, "no-such-link")]) == {}
        assert routes.ask([]) == {}
