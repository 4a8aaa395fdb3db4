from __future__ import annotations

import random

from appliance.services.queueing import FairQueue, QueueLimits, Standing, Turn


class Lines:
    """A queue whose wake-ups are written down."""

    def __init__(self, *, slots: int = 4, waiting: int = 1_000, waiting_bytes: int = 10**9) -> None:
        self.queue = FairQueue(QueueLimits(slots=slots, waiting=waiting, waiting_bytes=waiting_bytes))
        self.woken: list[str] = []

    def enter(self, team: str, times: int = 1, *, weight: int = 4, size_bytes: int = 1) -> list[Turn]:
        def wake() -> None:
            self.woken.append(team)

        return [self.queue.enter(team, weight=weight, size_bytes=size_bytes, wake=wake) for _ in range(times)]


def granted(turns: list[Turn]) -> int:
    return sum(turn.standing is Standing.GRANTED for turn in turns)


def test_who_comes_while_a_slot_is_free_takes_it() -> None:
    lines = Lines(slots=3)

    turns = lines.enter("a", 5)

    assert granted(turns) == 3
    assert (lines.queue.running, lines.queue.waiting) == (3, 2)
    assert lines.woken == []


def test_one_team_with_a_thousand_requests_holds_up_nobody_but_itself() -> None:
    lines = Lines(slots=4)
    flood = lines.enter("flood", 900)
    (other,) = lines.enter("other")

    lines.queue.leave(flood[0])

    assert other.standing is Standing.GRANTED
    assert lines.woken == ["other"]
    assert granted(flood) == 3


def test_slots_are_shared_by_weight_while_teams_wait() -> None:
    lines = Lines(slots=26)
    everyone = [
        *lines.enter("batch", 300, weight=1),
        *lines.enter("standard", 300, weight=4),
        *lines.enter("interactive", 300, weight=8),
    ]
    running = [turn for turn in everyone if turn.standing is Standing.GRANTED]

    for _ in range(200):
        lines.queue.leave(running.pop(0))
        running = [turn for turn in everyone if turn.standing is Standing.GRANTED]

    shares = {team: sum(turn.team == team for turn in running) for team in ("batch", "standard", "interactive")}
    assert shares == {"batch": 2, "standard": 8, "interactive": 16}


def test_a_team_of_the_lowest_class_is_never_starved() -> None:
    lines = Lines(slots=1)
    (first,) = lines.enter("busy", weight=8)
    busy = lines.enter("busy", 50, weight=8)
    (batch,) = lines.enter("batch", weight=1)

    lines.queue.leave(first)

    assert batch.standing is Standing.GRANTED or busy[0].standing is Standing.GRANTED
    lines.queue.leave(busy[0])
    assert batch.standing is Standing.GRANTED


def test_within_a_team_who_came_first_goes_first() -> None:
    lines = Lines(slots=1)
    turns = lines.enter("a", 4)

    for turn in turns[:3]:
        lines.queue.leave(turn)

    assert turns[3].standing is Standing.GRANTED


def test_full_lines_refuse_who_filled_them_and_not_who_comes_new() -> None:
    lines = Lines(slots=1, waiting=10)
    flood = lines.enter("flood", 11)

    (too_many,) = lines.enter("flood")
    (other,) = lines.enter("other")

    assert too_many.standing is Standing.DROPPED
    assert other.standing is Standing.WAITING
    assert flood[-1].standing is Standing.DROPPED
    assert lines.woken == ["flood"]
    assert lines.queue.waiting == 10


def test_lines_are_bounded_in_bytes_too() -> None:
    lines = Lines(slots=1, waiting_bytes=100)
    lines.enter("a")

    (big,) = lines.enter("a", size_bytes=101)
    (small,) = lines.enter("a", size_bytes=100)

    assert (big.standing, small.standing) == (Standing.DROPPED, Standing.WAITING)


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    lines = Lines(slots=1)
    first, second = lines.enter("a", 2)
    (other,) = lines.enter("b")

    lines.queue.leave(second)
    lines.queue.leave(second)
    lines.queue.leave(first)

    assert other.standing is Standing.GRANTED
    lines.queue.leave(other)
    assert (lines.queue.running, lines.queue.waiting) == (0, 0)
    assert lines.queue._lines == {}


def test_slots_and_lines_are_never_miscounted() -> None:
    chance = random.Random(7)  # noqa: S311  a seeded game, no secret
    lines = Lines(slots=5, waiting=20, waiting_bytes=60)
    turns: list[Turn] = []

    for _ in range(5_000):
        if chance.random() < 0.6:
            turns += lines.enter(
                chance.choice("abcd"), weight=chance.choice([1, 4, 8]), size_bytes=chance.randint(1, 9)
            )
        elif turns:
            lines.queue.leave(turns.pop(chance.randrange(len(turns))))
        waiting = [turn for turn in turns if turn.standing is Standing.WAITING]
        assert granted(turns) == lines.queue.running <= 5
        assert len(waiting) == lines.queue.waiting <= 20
        assert sum(turn.size_bytes for turn in waiting) == lines.queue._waiting_bytes <= 60
        assert not waiting or lines.queue.running == 5
