"""Which engine takes a request, and what a gateway concludes from how engines behave."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from appliance.domain.routing import SLACK, affinity_of, choose
from appliance.services.queueing import FairQueue, QueueLimits, Standing, Turn
from appliance.services.routing import BREAK_AFTER, DOWN_AFTER, MOST_SPARED_S, SPARED_S, Replica, Router

NO_PREFIX = bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    name: str
    in_flight: int
    slots: int


def idle(*names: str) -> list[Engine]:
    return [Engine(name=name, in_flight=0, slots=8) for name in names]


def router(*names: str, slots: int = 8) -> Router:
    return Router([Replica(name=name, slots=slots) for name in names])


def picked(routes: Router, now: float = 0.0, affinity: bytes = b"", without: tuple[str, ...] = ()) -> Replica:
    replica = routes.pick(lambda: affinity, now, without=without)
    assert replica is not None
    return replica


def lose(replica: Replica, times: int, now: float) -> None:
    for _ in range(times):
        replica.begin()
        replica.lost(now)


def test_prompts_that_begin_alike_go_to_one_engine_and_others_spread() -> None:
    engines = idle("a", "b", "c")
    seen = Counter(choose(engines, f"team{number}".encode()).name for number in range(600))

    assert {choose(engines, b"one prompt").name for _ in range(50)} == {choose(engines, b"one prompt").name}
    assert all(140 < seen[name] < 260 for name in "abc")


def test_the_others_keep_their_favourites_when_an_engine_goes() -> None:
    three, two = idle("a", "b", "c"), idle("a", "b")
    prompts = [str(number).encode() for number in range(300)]
    stayed = [one for one in prompts if choose(three, one).name != "c"]

    assert all(choose(two, one).name == choose(three, one).name for one in stayed)
    assert {choose(two, one).name for one in prompts} == {"a", "b"}


def test_a_popular_beginning_spreads_when_its_engine_is_much_busier() -> None:
    favourite = choose(idle("a", "b"), b"x").name
    other = "b" if favourite == "a" else "a"

    def chosen(busy: int) -> str:
        states = [Engine(name=favourite, in_flight=busy, slots=8), Engine(name=other, in_flight=0, slots=8)]
        return choose(states, b"x").name

    assert [chosen(busy) for busy in range(4)] == [favourite, favourite, other, other]
    assert SLACK * 8 == 1


def test_a_full_favourite_is_passed_over_though_it_is_as_busy_as_the_rest() -> None:
    favourite = choose(idle("a", "b"), b"x").name
    other = "b" if favourite == "a" else "a"
    states = [Engine(name=favourite, in_flight=2, slots=2), Engine(name=other, in_flight=19, slots=20)]

    assert choose(states, b"x").name == other


def test_load_is_a_share_of_an_engines_own_slots() -> None:
    small, big = Engine(name="s", in_flight=4, slots=4), Engine(name="b", in_flight=20, slots=100)

    assert {choose([small, big], bytes([number])).name for number in range(20)} == {"b"}


RULES = '{"role":"system","content":"%s"}' % ("rules " * 300)


@pytest.mark.parametrize(
    "first",
    [
        '{"role":"user","content":"question"}',
        '{"content":"question","role":"user"}',
        RULES + ',{"role":"user","content":"question"}',
        '{"role":"user","content":[{"type":"text","text":"question"},{"type":"image_url","image_url":"data:x"}]}',
    ],
)
def test_a_conversation_keeps_its_affinity_as_it_goes_on(first: str) -> None:
    def body(more: str, last: str = "") -> bytes:
        return f'{{"model":"m","temperature":1,"messages":[{first}{more}],"stream":true{last}}}'.encode()

    begun = affinity_of("t", body(""))
    went_on = body(',{"role":"assistant","content":"answer"},{"role":"user","content":"and?"}', ',"seed":1')

    assert affinity_of("t", went_on) == begun
    assert affinity_of("u", went_on) != begun
    assert affinity_of("t", body("").replace(b"question", b"riddle")) != begun


def test_prompts_of_one_string_and_bodies_without_any_have_an_affinity_too() -> None:
    assert affinity_of("t", b'{"prompt":"a"}') != affinity_of("t", b'{"prompt":"b"}')
    assert affinity_of("t", b"{}") == affinity_of("t", b"{}")
    assert len(affinity_of("t", b'{"prompt":"' + b"a" * 1_000_000)) == 8


def test_load_stays_even_over_thousands_of_requests_with_few_beginnings() -> None:
    dice = random.Random(5)  # noqa: S311  a seeded sequence
    routes = router("a", "b", "c", slots=100)
    running: list[Replica] = []
    for _ in range(5_000):
        if len(running) >= 150:
            running.pop(dice.randrange(len(running))).answered()
        running.append(picked(routes, affinity=bytes([dice.choice((1, 2, 2, 2, 2))])))
        loads = [one.in_flight for one in routes.replicas]
        assert max(loads) - min(loads) <= 30  # the slack of 12, and what chance ends where

    assert sum(one.in_flight for one in routes.replicas) == len(running)


def test_an_engine_is_down_after_looks_without_an_answer_and_up_after_one_with() -> None:
    routes = router("a", "b")
    first, _ = routes.replicas
    for _ in range(DOWN_AFTER - 1):
        routes.looked(first, is_well=False)
    assert first.is_up

    routes.looked(first, is_well=False)
    assert not first.is_up
    assert {picked(routes, affinity=bytes([number])).name for number in range(20)} == {"b"}

    routes.looked(first, is_well=True)
    assert {picked(routes, affinity=bytes([number])).name for number in range(10)} == {"a"}  # b has twenty


def test_without_an_engine_nothing_is_picked() -> None:
    routes = router("a", "b")
    first, second = routes.replicas
    routes.refused(first)
    routes.drain(["b"])

    assert routes.pick(NO_PREFIX, 0.0) is None
    assert (first.in_flight, second.in_flight) == (0, 0)


def test_a_drained_engine_keeps_what_it_has_and_gets_nothing_new() -> None:
    routes = router("a", "b")
    kept = picked(routes, affinity=b"x")
    routes.drain([kept.name])

    assert kept.name not in {picked(routes, affinity=bytes([number])).name for number in range(20)}
    assert kept.in_flight == 1

    routes.drain([])
    assert kept.name in {picked(routes, affinity=bytes([number])).name for number in range(20)}


def test_a_breaker_opens_after_losses_in_a_row_and_tries_one_request_later() -> None:
    routes = router("a", "b")
    first, second = routes.replicas
    lose(first, BREAK_AFTER - 1, now=0.0)
    assert not first.is_spared(0.0)
    lose(first, 1, now=0.0)

    assert first.is_spared(SPARED_S - 0.1)
    assert picked(routes, SPARED_S - 0.1).name == "b"
    assert picked(routes, SPARED_S + 0.1, without=("b",)) is first
    assert first.is_spared(SPARED_S + 0.1)  # one at a time
    first.answered()
    assert not first.is_spared(SPARED_S + 0.2)
    assert second.in_flight == 1


def test_a_trial_that_fails_spares_the_engine_twice_as_long_up_to_a_minute() -> None:
    replica = Replica(name="a", slots=8)
    now = 0.0
    lose(replica, BREAK_AFTER, now)
    waits = []
    for _ in range(6):
        assert replica.spared_until is not None
        waits.append(replica.spared_until - now)
        now = replica.spared_until
        lose(replica, 1, now)

    assert waits == [5, 10, 20, 40, MOST_SPARED_S, MOST_SPARED_S]


def test_losses_of_requests_that_were_under_way_do_not_lengthen_the_pause() -> None:
    replica = Replica(name="a", slots=8)
    for _ in range(8):
        replica.begin()
    for _ in range(8):
        replica.lost(1.0)

    assert replica.spared_until == 1.0 + SPARED_S
    assert (replica.in_flight, replica.failures) == (0, 8)


def test_a_breaker_never_leaves_the_node_without_an_engine() -> None:
    routes = router("a")
    (only,) = routes.replicas
    lose(only, BREAK_AFTER, now=0.0)

    assert only.is_spared(1.0)
    assert picked(routes, 1.0) is only


def test_an_answer_between_losses_keeps_the_breaker_closed_and_a_caller_that_left_says_nothing() -> None:
    replica = Replica(name="a", slots=8)
    for _ in range(3):
        lose(replica, BREAK_AFTER - 1, now=0.0)
        replica.begin()
        replica.answered()
    assert replica.spared_until is None

    lose(replica, BREAK_AFTER - 1, now=0.0)
    replica.begin()
    replica.left()
    lose(replica, 1, now=0.0)
    assert replica.spared_until is not None


def test_slots_follow_the_engines_that_take_requests() -> None:
    told: list[int] = []
    routes = Router([Replica(name="a", slots=8), Replica(name="b", slots=4)], changed=told.append)
    first, second = routes.replicas

    routes.refused(first)
    routes.refused(first)
    routes.refused(second)
    routes.looked(second, is_well=True)
    routes.looked(first, is_well=True)
    routes.drain(["b"])

    assert told == [4, 12, 4, 12, 8]


@pytest.mark.parametrize("slots", [0, 1, 5])
def test_a_queue_that_shrinks_keeps_what_runs_and_grants_no_more_until_there_is_room(slots: int) -> None:
    queue, woken = FairQueue(QueueLimits(slots=3)), list[int]()

    def enter(number: int) -> Turn:
        return queue.enter("t", weight=1, size_bytes=1, wake=lambda: woken.append(number))

    turns = [enter(number) for number in range(6)]
    queue.resize(slots)
    assert queue.running == max(3, min(slots, 6))
    assert woken == list(range(3, max(3, slots)))

    for turn in turns:
        queue.leave(turn)
        standing = [one.standing for one in turns]
        assert standing.count(Standing.GRANTED) <= max(slots, 2)
    assert (queue.running, queue.waiting, queue.slots) == (0, 0, slots)
