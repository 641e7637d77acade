"""The router of replicas: each request with one member, unlike members balanced; simulated at length."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import routing

from mlperf_llama.engine import Request
from mlperf_llama.engine.replicas.protocol import Router
from mlperf_llama.engine.replicas.router import ROUNDS, TokenRouter


def requests(*lengths: int, first: int = 0) -> list[Request]:
    return [Request(first + n, range(length)) for n, length in enumerate(lengths)]


def router(*members: tuple[float, int]) -> TokenRouter:
    made = TokenRouter()
    for number, (rate, seats) in enumerate(members):
        made.add(number, rate, seats)
    return made


def ids(batches: dict[int, list[Request]]) -> dict[int, list[int]]:
    return {member: [request.id for request in batch] for member, batch in batches.items()}


def test_it_is_the_router_that_the_head_expects() -> None:
    made: Router = TokenRouter()
    made.clear()


def test_idle_members_alike_share_evenly() -> None:
    batches = router((1, 8), (1, 8), (1, 8)).assign(requests(*[500] * 30))
    assert {member: len(batch) for member, batch in batches.items()} == {0: 10, 1: 10, 2: 10}


@pytest.mark.parametrize("seed", range(3))
def test_the_short_way_for_members_alike_chooses_as_the_long_one(seed: int) -> None:
    """Whatever is begun, done, taken away and added in between."""
    draw, short, long = random.Random(seed), router(*[(2, 8)] * 7), router(*[(2, 8)] * 7)
    held: list[tuple[int, int]] = []
    for number in range(400):
        (request,) = requests(draw.randrange(1, 2500), first=number)
        if number in (150, 300):
            lost = draw.randrange(7)
            for made in (short, long):
                made.remove(lost)
                if number == 300:
                    made.add(lost, 2, 8)
            held = [(member, held_id) for member, held_id in held if member != lost]
        long._alike = False
        [(member, _)] = short.assign([request]).items()
        assert list(long.assign([request])) == [member]
        held.append((member, number))
        for end in range(draw.randrange(3)):
            if held:
                ended = held.pop(draw.randrange(len(held)))
                for made in (short, long):
                    made.begun(*ended)
                    if end:
                        made.done(*ended)
    assert short._keys == long._keys


def test_one_at_a_time_goes_in_turn() -> None:
    """Members that are equally idle are equally used: none stays cold."""
    made, used = router((1, 8), (1, 8)), []
    for request in requests(*[100] * 6):
        [(member, _)] = made.assign([request]).items()
        made.done(member, request.id)
        used.append(member)
    assert sorted(used) == [0, 0, 0, 1, 1, 1]


def test_a_member_of_three_times_the_rate_gets_three_times_the_work() -> None:
    batches = router((1, 8), (3, 8)).assign(requests(*[500] * 400))
    assert {member: len(batch) for member, batch in batches.items()} == {0: 100, 1: 300}


def test_what_has_not_begun_weighs_more_than_what_is_in_decode() -> None:
    made = router((1, 99), (1, 99))
    batches = made.assign(requests(*[400] * 12))
    for request in batches[0]:
        made.begun(0, request.id)
    # Member 0: six in decode. Member 1: all answered but one, which waits.
    for request in batches[1][1:]:
        made.done(1, request.id)
    assert ids(made.assign(requests(400, first=100))) == {0: [100]}


def test_removed_member_gets_nothing_more() -> None:
    made = router((1, 8), (1, 8))
    made.assign(requests(100, 100))
    made.remove(0)
    assert set(made.assign(requests(*[100] * 10, first=10))) == {1}
    made.remove(0)
    made.done(0, 0)
    made.remove(1)
    with pytest.raises(ValueError, match="found none"):
        made.assign(requests(100))


def test_what_a_member_does_not_hold_changes_nothing() -> None:
    made = router((1, 8), (1, 8))
    made.assign(requests(100, 900))
    for _ in range(3):
        made.begun(0, 77)
        made.done(0, 77)
        made.done(7, 0)
        made.done(1, 0)
    before = ids(made.assign(requests(*[100] * 20, first=10)))
    again = router((1, 8), (1, 8))
    again.assign(requests(100, 900))
    assert before == ids(again.assign(requests(*[100] * 20, first=10)))


def test_a_begun_or_done_request_counts_once() -> None:
    made = router((1, 8), (1, 8))
    [(member, _)] = made.assign(requests(100)).items()
    made.begun(member, 0)
    made.begun(member, 0)
    made.done(member, 0)
    made.done(member, 0)
    assert len(ids(made.assign(requests(*[100] * 10, first=1)))[member]) == 5


def test_the_queue_keeps_its_order_and_a_member_holds_two_rounds() -> None:
    made = router((1, 4), (1, 4))
    made.queue(requests(*range(900, 100, -10)))
    first, second = made.pull(0, 999), made.pull(1, 999)
    assert [request.id for request in first + second] == list(range(2 * ROUNDS * 4))
    assert made.pull(0, 999) == []
    made.done(0, 0)
    assert [request.id for request in made.pull(0, 999)] == [2 * ROUNDS * 4]


def test_at_most_n_are_pulled() -> None:
    made = router((1, 100))
    made.queue(requests(*[100] * 50))
    assert [len(made.pull(0, 7)), len(made.pull(0, 0)), len(made.pull(0, 99))] == [7, 0, 43]


def test_near_the_end_a_slow_member_takes_its_share_only() -> None:
    made = router((1, 100), (3, 100))
    made.queue(requests(*[100] * 80))
    assert len(made.pull(0, 999)) == 20
    assert len(made.pull(1, 999)) == 60


def test_an_empty_member_always_gets_something() -> None:
    """However small its share: otherwise it would never be asked again."""
    made = router((1, 100), (1000, 100))
    made.queue(requests(*[100] * 3))
    assert len(made.pull(0, 999)) == 1


def test_clear_forgets_every_request_and_no_member() -> None:
    made = router((1, 4), (3, 4))
    made.queue(requests(*[100] * 50))
    made.pull(0, 9)
    made.clear()
    assert made.pull(0, 9) == []
    made.queue(requests(*[100] * 4, first=100))
    assert [request.id for request in made.pull(0, 9)] == [100]


def test_nothing_is_lost_or_doubled_while_members_come_and_go() -> None:
    draw = random.Random(5)
    for _ in range(30):
        made, held, waiting = router((1, 3), (2.5, 5), (0.3, 2)), {}, 300
        answered: list[int] = []
        made.queue(requests(*(draw.randint(1, 2000) for _ in range(waiting))))
        alive = [0, 1, 2]
        for _turn in range(100_000):
            if len(answered) == waiting:
                break
            member = draw.choice(alive)
            for request in made.pull(member, draw.randint(0, 20)):
                assert request.id not in held
                held[request.id] = (member, request)
            own = [request for owner, request in held.values() if owner == member]
            if len(alive) > 1 and draw.random() < 0.005:
                made.remove(member)
                alive.remove(member)
                made.queue(own)
                held = {number: pair for number, pair in held.items() if pair[0] != member}
            elif own:
                request = draw.choice(own)
                made.done(member, request.id)
                del held[request.id]
                answered.append(request.id)
        assert sorted(answered) == list(range(waiting))


def one_pass() -> list[Request]:
    return routing.longest_first(routing.made_up_requests(routing.PASS, 3))


@pytest.mark.parametrize("given", [(1.0, 3.0), (1.0, 1.0)], ids=["measured", "taken for equal"])
def test_unlike_members_end_within_two_percent(given: tuple[float, float]) -> None:
    members = [routing.Member(rate, prefill_tokens=32768) for rate in (1.0, 3.0)]
    outcome = routing.pull(members, one_pass(), given)
    assert sum(outcome.answered) == routing.PASS
    assert outcome.spread < 0.02
    alone = routing.pull([routing.Member(4.0, prefill_tokens=32768)], one_pass(), [1.0])
    # Nothing idles: together they are as quick as one member of their common rate.
    assert max(outcome.end_s) < 1.03 * max(alone.end_s)


@pytest.mark.parametrize("rates", [[1.0] * 8, [1.0, 3.0] * 4], ids=["alike", "1 and 3"])
def test_first_tokens_come_sooner_than_by_round_robin(rates: list[float]) -> None:
    qps = 53.0 * sum(rates)
    arrivals = routing.poisson(routing.made_up_requests(round(30 * qps), 1), qps, 2)
    turns = routing.round_robin([routing.Member(rate) for rate in rates], arrivals)
    routed = routing.push([routing.Member(rate) for rate in rates], arrivals)
    assert len(routed.ttft_s) == len(turns.ttft_s) == len(arrivals)
    assert routed.ttft_p99_ms < 0.85 * turns.ttft_p99_ms
    assert routed.tpot_p99_ms < 1.02 * turns.tpot_p99_ms
