"""Schedulers: the same answer on every host, fair shares, and the clients that a changed pool moves."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Address

import pytest

from natmirror.fastpath import number_places, places_of
from natmirror.nat.failed_attempts import AVOID_TIMEOUT, MAX_CLIENTS, Client, FailedAttempts
from natmirror.nat.schedulers import TABLE_SIZE, LeastConnections, Maglev, RoundRobin, Scheduler
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Backend, Balance, HashInput, Pool

GOLDEN = ["c2", "c1", "c1", "c1", "c1", "c3", "c3", "c2", "c2", "c3", "c1", "c2"]
CLIENTS: list[Endpoint] = [(IPv4Address(0x0A0A_0000 + number).packed, 40_000) for number in range(2000)]


def pool(*weights: int, hash: HashInput = HashInput.ADDRESS) -> Pool:
    backends = (Backend(f"c{n}", IPv4Address("10.20.0.0") + n, 6653, weight) for n, weight in enumerate(weights, 1))
    return Pool(Balance.MAGLEV, hash, tuple(backends))


def shares(scheduler: Maglev | RoundRobin, clients: list[Endpoint]) -> Counter[str]:
    return Counter(pick(scheduler, client).name for client in clients)


def pick(scheduler: Scheduler, client: Endpoint, avoid: Collection[Backend] = ()) -> Backend:
    chosen = scheduler.pick(client, avoid)
    assert chosen is not None
    return chosen


def test_maglev_gives_the_published_answers() -> None:
    """A program or version with other answers would send switches to other backends."""
    maglev = Maglev(pool(1, 1, 1))
    assert [pick(maglev, client).name for client in CLIENTS[:12]] == GOLDEN


def test_maglev_does_not_depend_on_the_order_of_the_rules() -> None:
    backends = pool(1, 2, 3).backends
    forwards = Maglev(Pool(Balance.MAGLEV, HashInput.ADDRESS, backends))
    backwards = Maglev(Pool(Balance.MAGLEV, HashInput.ADDRESS, backends[::-1]))
    assert [pick(forwards, client) for client in CLIENTS] == [pick(backwards, client) for client in CLIENTS]


@pytest.mark.parametrize("weights", [(1,), (1, 1), (1, 1, 1, 1, 1), (1, 3), (10, 1, 5)])
def test_maglev_gives_each_backend_its_share(weights: tuple[int, ...]) -> None:
    counted = shares(Maglev(pool(*weights)), CLIENTS)
    for number, weight in enumerate(weights, 1):
        assert counted[f"c{number}"] / len(CLIENTS) == pytest.approx(weight / sum(weights), abs=0.04)


def test_a_backend_that_leaves_moves_hardly_any_other_client() -> None:
    before, after = Maglev(pool(1, 1, 1, 1, 1)), Maglev(pool(1, 1, 1, 1))
    stayed = [client for client in CLIENTS if pick(before, client).name != "c5"]
    moved = sum(pick(before, client).name != pick(after, client).name for client in stayed)
    assert moved / len(stayed) < 0.05


@pytest.mark.parametrize(("count", "leaving"), [(10, 1), (100, 1), (1000, 1), (1000, 10)])
def test_the_disruption_of_a_changed_pool(count: int, leaving: int) -> None:
    """Eisenbud et al. (§5.3, figure 12) measure with 1,000 backends how many entries change though their backend stays.
    Backends that only go down give their entries away, and change no others."""
    everybody, fewer = Maglev(pool(*[1] * count)), Maglev(pool(*[1] * (count - leaving)))
    stays = [entry for entry in zip(everybody.table, fewer.table, strict=True) if entry[0] < count - leaving]
    moved = sum(before != after for before, after in stays) / len(stays)
    down = Maglev(pool(*[1] * count))
    members = pool(*[1] * count).backends
    down.set_shares(dict.fromkeys(members[: count - leaving], 1.0))
    assert all(
        before == after for before, after in zip(everybody.table, down.table, strict=True) if before < count - leaving
    )
    print(
        f"{leaving} of {count} backends: taken out of the rules, {moved:.2%} of the others' entries move"
        f" (and come back with it); down, none; the least that has to move is {leaving / count:.2%}"
    )
    again = Maglev(pool(*[1] * count))
    assert again.table == everybody.table
    assert moved < 0.05 + 6 * leaving / count


@pytest.mark.parametrize("parts", [(0, 1, 1), (1, 0.05, 0), (0.5, 0.5, 0.5), (0, 0, 0.3), (0, 0, 0)])
def test_an_entry_that_a_backend_gives_up_goes_to_the_next_that_keeps_its_own(parts: tuple[float, ...]) -> None:
    three = pool(1, 2, 3)
    maglev = Maglev(three)
    maglev.set_shares(dict(zip(three.backends, parts, strict=True)))
    # A slow version of the published rule: an even spread of the slots, by Knuth's multiplicative hash.
    stays = [slot * 40503 % 65536 < round(parts[place] * 65536) for slot, place in enumerate(maglev.full_table)]
    expected, following = [], None
    for place, is_kept in zip(reversed(maglev.full_table * 2), reversed(stays * 2), strict=True):
        following = place if is_kept else following
        expected.append(following)
    assert maglev.table.tolist() == (expected[TABLE_SIZE:][::-1] if any(parts) else [])


@pytest.mark.parametrize(
    ("in_rules", "commands", "expected"),
    [((1, 1, 1), {0: 3}, (3, 1, 1)), ((1, 2, 1), {1: 1}, (1, 1, 1)), ((1, 1, 1), {0: 1000}, (1000, 1, 1))],
)
def test_weights_of_commands_count_as_those_of_the_rules_and_leave_the_derived_backends(
    in_rules: tuple[int, ...], commands: dict[int, int], expected: tuple[int, ...]
) -> None:
    three = pool(*in_rules)
    weights = {three.backends[index]: weight for index, weight in commands.items()}
    everybody = dict.fromkeys(three.backends, 1.0)
    maglev, turns, plain = Maglev(three), RoundRobin(three), Maglev(three)
    maglev.set_shares(everybody, weights)
    turns.set_shares(everybody, weights)
    for table in (maglev.table, turns.table):
        counted = Counter(table)
        for index, weight in enumerate(expected):
            assert counted[index] / len(table) == pytest.approx(weight / sum(expected), abs=0.001)
    assert [maglev.derive(client) for client in CLIENTS] == [plain.derive(client) for client in CLIENTS]
    maglev.set_shares(everybody)
    assert maglev.table == plain.table


def test_the_table_by_a_commands_weight_is_that_of_rules_with_this_weight() -> None:
    three, heavy = pool(1, 1, 1), pool(1, 5, 1)
    shares = dict(zip(three.backends, (1.0, 0.5, 0.0), strict=True))
    maglev, by_rules = Maglev(three), Maglev(heavy)
    maglev.set_shares(shares, {three.backends[1]: 5})
    by_rules.set_shares(dict(zip(heavy.backends, (1.0, 0.5, 0.0), strict=True)))
    assert maglev.table == by_rules.table
    maglev.set_shares(shares)
    assert maglev.table != by_rules.table


def test_least_connections_follow_the_weights_of_commands() -> None:
    two = pool(1, 1)
    counts = Counter[Backend]()
    fewest = LeastConnections(two, lambda backend: counts[backend])
    fewest.set_shares(dict.fromkeys(two.backends, 1.0), {two.backends[1]: 3})
    for client in CLIENTS[:400]:
        counts[pick(fewest, client)] += 1
    assert [counts[one] for one in two.backends] == [100, 300]


def test_a_clients_connections_go_to_one_backend_unless_ports_are_hashed() -> None:
    ports = [(CLIENTS[0][0], port) for port in range(1000, 1100)]
    assert len(shares(Maglev(pool(1, 1, 1)), ports)) == 1
    assert len(shares(Maglev(pool(1, 1, 1, hash=HashInput.ADDRESS_PORT)), ports)) == 3


def test_maglev_avoids_backends_unless_all_are_to_be_avoided() -> None:
    three = pool(1, 1, 1)
    maglev = Maglev(three)
    for client in CLIENTS[:50]:
        first = pick(maglev, client)
        second = pick(maglev, client, [first])
        assert second != first
        assert pick(maglev, client, [first, second]) not in (first, second)
        assert pick(maglev, client, three.backends) == first


def test_round_robin_spreads_turns_by_weight() -> None:
    turns = RoundRobin(pool(3, 1))
    assert [pick(turns, CLIENTS[0]).name for _ in range(8)] == ["c1", "c1", "c2", "c1", "c1", "c1", "c2", "c1"]


def test_round_robin_skips_backends_that_are_to_be_avoided() -> None:
    three = pool(1, 1, 1)
    turns = RoundRobin(three)
    assert {pick(turns, CLIENTS[0], three.backends[:2]).name for _ in range(5)} == {"c3"}
    assert pick(turns, CLIENTS[0], three.backends).name in {"c1", "c2"}


def test_the_table_size_is_prime() -> None:
    assert all(TABLE_SIZE % divisor for divisor in range(2, 257))


def test_round_robin_follows_its_table_however_uneven_the_weights() -> None:
    turns = RoundRobin(pool(1000, 10, 990))
    assert len(turns.table) == 200, "weights divided by their common divisor"
    assert Counter(turns.table) == {0: 100, 1: 1, 2: 99}


# Failed attempts


class Suspects(Counter[tuple[int, bytes]]):
    """Counts the suspects that FailedAttempts reports."""

    def note(self, service_id: int, client: bytes, by: int) -> None:
        self[service_id, client] += by


WHO = (0, b"\x0a\x0a\x00\x01")


def avoided(attempts: FailedAttempts, client: Client, now: float, accepted: Callable[[Backend], int]) -> list[Backend]:
    """Forget old failures as before a choice; return the backends that the client avoids."""
    attempts.forget_old(now)
    return [failure.backend for failure in attempts.lasting(client, now, accepted)]


def seven(_backend: Backend) -> int:
    """Return how many connections a backend has accepted: always seven."""
    return 7


def test_a_backend_that_failed_is_avoided_until_it_answers() -> None:
    [backend] = pool(1).backends
    suspects = Suspects()
    attempts = FailedAttempts(suspects.note)
    attempts.add(WHO, backend, 0.0, None)
    attempts.add(WHO, backend, 0.5, None)
    assert suspects[WHO] == 1
    assert avoided(attempts, WHO, 1.0, seven) == [backend]
    assert avoided(attempts, (1, WHO[1]), 1.0, seven) == []
    attempts.remove(WHO, backend)
    attempts.remove(WHO, backend)
    assert avoided(attempts, WHO, 2.0, seven) == []
    assert suspects[WHO] == 0


def test_an_unanswered_syn_counts_until_its_backend_accepts_a_connection() -> None:
    silent, refused = pool(1, 1).backends
    attempts = FailedAttempts(Suspects().note)
    attempts.add(WHO, silent, 0.0, 7)
    attempts.add(WHO, refused, 0.0, None)
    assert avoided(attempts, WHO, 1.0, seven) == [silent, refused]
    assert avoided(attempts, WHO, 1.0, lambda _backend: 8) == [refused]
    attempts.add(WHO, silent, 0.0, 8)
    assert avoided(attempts, WHO, 1.0, lambda _backend: 8) == [silent, refused]


def test_a_failure_expires() -> None:
    one, other = pool(1, 1).backends
    suspects = Suspects()
    attempts = FailedAttempts(suspects.note)
    attempts.add(WHO, one, 0.1, None)
    attempts.add(WHO, other, 5.0, 7)
    assert avoided(attempts, WHO, 0.1 + AVOID_TIMEOUT, seven) == [other]
    assert avoided(attempts, (7, b""), 5.0 + AVOID_TIMEOUT, seven) == []
    assert suspects[WHO] == 0, "a request about any client forgets old failures"


def test_spoofed_clients_do_not_make_memory_grow() -> None:
    [backend] = pool(1).backends
    suspects = Suspects()
    attempts = FailedAttempts(suspects.note)
    clients = [(0, number.to_bytes(4, "big")) for number in range(2 * MAX_CLIENTS)]
    for client in clients:
        attempts.add(client, backend, 0.0, None)
    assert avoided(attempts, clients[0], 1.0, seven) == []
    assert avoided(attempts, clients[-1], 1.0, seven) == [backend]
    assert suspects.total() == MAX_CLIENTS


class CountingTable:
    """A scheduler's table that counts how many of its entries are read."""

    def __init__(self, table: "array[int]") -> None:
        self._table = table
        self.reads = 0

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int | slice) -> "int | array[int]":
        entries = self._table[index]
        self.reads += 1 if isinstance(entries, int) else len(entries)
        return entries

    def __iter__(self) -> Iterator[int]:
        self.reads += len(self._table)
        return iter(self._table)


@pytest.mark.parametrize("kind", [Maglev, RoundRobin])
def test_a_backend_to_avoid_costs_no_pass_over_the_table(
    kind: type[Maglev | RoundRobin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that a backend refused can send thousands of SYNs a second."""
    one = pool(50, 49, 47)
    scheduler = kind(one)
    for avoid in ([one.backends[0]], list(one.backends[:2]), list(one.backends)):
        table = CountingTable(scheduler.table)
        with monkeypatch.context() as patched:
            patched.setattr(scheduler, "table", table)
            chosen = [pick(scheduler, client, avoid) for client in CLIENTS[:20]]
        assert table.reads < 20 * 20
        assert len(avoid) == 3 or not set(chosen) & set(avoid)


def test_places_become_numbers_in_each_slot() -> None:
    table = array("H", (place % 3 for place in range(TABLE_SIZE)))
    numbered = number_places(table, [7, 0xFFFE, 0])
    assert list(numbered) == [[7, 0xFFFE, 0][place] for place in table]
    assert number_places(array("H"), []) == array("H")


def test_the_places_of_a_table_are_found() -> None:
    assert places_of(array("H", [3, 0, 3]), 5) == {0, 3}
    assert places_of(array("H"), 5) == set()
