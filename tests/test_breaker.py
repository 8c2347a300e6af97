"""The breaker, with a clock of our own: numbers that go up."""

import pytest

from receiver.breaker import Breaker


def test_it_begins_closed_and_stays_so_while_redis_answers() -> None:
    """Nothing is known against Redis, so every write is tried."""
    breaker = Breaker()

    assert not breaker.open
    assert breaker.allows(0.0)
    breaker.answered()

    assert breaker.allows(0.0)
    assert not breaker.open


def test_after_one_miss_nothing_is_tried_until_the_pause_is_over() -> None:
    """One caller has paid the deadline; the next ones do not, for a quarter of a second."""
    breaker = Breaker()
    breaker.missed(100.0)

    assert breaker.open
    assert [breaker.allows(100.0), breaker.allows(100.2499)] == [False, False]
    assert breaker.allows(100.25)


def test_only_one_write_is_tried_at_the_end_of_a_pause() -> None:
    """Others wait for what becomes of that one."""
    breaker = Breaker()
    breaker.missed(100.0)

    assert [breaker.allows(100.3), breaker.allows(100.3), breaker.allows(100.54)] == [True, False, False]
    assert breaker.allows(100.55)


def test_pauses_grow_to_two_seconds() -> None:
    """The longer Redis is away, the fewer callers pay for finding out."""
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(6):
        breaker.missed(now)
        missed = now
        while not breaker.allows(now):
            now += 0.0625
        pauses.append(now - missed)

    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("misses", [1, 5])
def test_an_answer_closes_it_and_the_next_pause_is_short_again(misses: int) -> None:
    """Whoever heard from Redis closes it, whatever the pause."""
    breaker = Breaker()
    for _ in range(misses):
        breaker.missed(10.0)
    breaker.answered()

    assert not breaker.open
    assert breaker.allows(10.0)

    breaker.missed(20.0)

    assert [breaker.allows(20.2), breaker.allows(20.25)] == [False, True]
