"""Lanes and the board, as rules: who is to have which, and in which order events may be handled."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.board import MOST_EVENTS, UNMOVED, Board, Lane, Taken
from correlator.lanes import BEGINNING, Position, just_before, lane_of, plan, read_position, show_position
from schemas.reader import Head

LANES = 8


# --- positions ---


@pytest.mark.parametrize("text", ["0-0", "1732190496419-0", "1732190496419-18446744073709551615"])
def test_a_position_is_written_as_it_was_read(text: str) -> None:
    """Entry ids of Redis survive being read."""
    position = read_position(text)

    assert position is not None
    assert show_position(position) == text


@pytest.mark.parametrize("text", ["", "new", "5", "5-", "-5", "5-5-5", "٣-1", "5-1 "])
def test_what_is_no_entry_id_is_no_position(text: str) -> None:
    """Anything else is told apart."""
    assert read_position(text) is None


def test_a_time_begins_with_its_first_entry() -> None:
    """The position before a time is before its first entry and after every earlier one."""
    assert (999, 2**63) < just_before((1000, 0)) < (1000, 0)
    assert just_before((1000, 5)) == (1000, 4)
    assert just_before(BEGINNING) == BEGINNING


def test_a_subject_is_in_the_same_lane_for_ever() -> None:
    """Consumers of other versions, and a group that was made long ago, must agree."""
    assert [lane_of(subject, 64) for subject in ("cv_oikxjpn4l3l4utkmr5rsvjqr4q", "", "ac_a")] == [2, 0, 22]


# --- sharing ---


@given(st.integers(1, 9), st.integers(1, 70), st.randoms(use_true_random=False))
def test_consumers_come_to_fair_shares_and_leave_nothing_over(consumers: int, lanes: int, random: Random) -> None:
    """Whoever held what before, a few rounds of taking and handing over end with shares that differ by one at most."""
    tokens = [f"c{number}" for number in range(consumers)]
    holders = {lane: random.choice([*tokens, "dead"]) for lane in range(lanes) if random.random() < 0.8}
    for _ in range(3):
        for me in random.sample(tokens, consumers):
            todo = plan(me, tokens, holders, lanes)
            for lane, former in todo.take:
                assert holders.get(lane, "") == former
                assert former not in tokens
                holders[lane] = me
            for lane in [lane for lane, holder in holders.items() if holder == me][: todo.surplus]:
                del holders[lane]
    shares = Counter(holders.values())

    assert len(holders) == lanes
    assert max(shares.values()) - min(shares[token] for token in tokens) <= 1


def test_consumers_that_come_at_once_reach_for_different_lanes() -> None:
    """What is free is taken from different places, so that few are refused."""
    taken = [plan(me, ["a", "b"], {}, 10).take for me in ("a", "b")]

    assert [[lane for lane, _ in lanes] for lanes in taken] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


# --- the board ---


def board_of(*lanes: int, cursor: Position = BEGINNING) -> Board:
    """A board that holds these lanes."""
    board = Board(LANES)
    board.gain([Taken(lane, cursor, doubtful=False) for lane in lanes])
    return board


def subject_in(lane: int, number: int = 0) -> str:
    """A subject of a lane; another one for each number."""
    return [name for name in map(str, range(1000)) if lane_of(name, LANES) == lane][number]


def put(board: Board, at: int, lane: int, merged: tuple[str, ...] = ()) -> None:
    """The next entry of the stream."""
    board.add(Head(str(at), "any", subject_in(lane)), (at, 0), b"{}", wanted=True, merged=merged)


def out(board: Board) -> Lane:
    """What is handed out next."""
    lane = board.next()
    assert lane is not None
    return lane


def test_of_a_lane_one_event_is_out_at_a_time() -> None:
    """The second one is not handed out before the first is done with."""
    board = board_of(0, 1)
    put(board, 1, 0)
    put(board, 2, 0)
    put(board, 3, 1)
    first, other = out(board), out(board)

    assert (first.number, other.number, board.next()) == (0, 1, None)

    board.finish(first)

    assert out(board).queue[0].position == (2, 0)


def test_a_lane_is_past_what_is_not_its_own() -> None:
    """Its cursor moves on to what was read, and while it has events up to just before the first."""
    board = board_of(0, 1, 2)
    put(board, 1, 0)
    put(board, 2, 1)
    put(board, 3, 5)

    assert board.moves() == {0: just_before((1, 0)), 1: just_before((2, 0)), 2: (3, 0)}

    board.finish(out(board))

    assert board.moves()[0] == (3, 0)


def test_a_lane_that_comes_is_read_from_its_cursor() -> None:
    """Reading begins anew there; what the other lanes have handled is not handed out again."""
    board = board_of(0)
    put(board, 5, 0)
    put(board, 6, 0)
    board.finish(out(board))
    board.gain([Taken(1, (2, 0), doubtful=True)])

    assert board.position == (2, 0)

    put(board, 3, 1)
    put(board, 5, 0)
    put(board, 6, 0)

    assert [(lane.number, lane.queue[0].position) for lane in (out(board), out(board))] == [(1, (3, 0)), (0, (6, 0))]


def test_an_event_that_is_out_stays_out_when_reading_begins_anew() -> None:
    """It is handed out once, and finished where it was."""
    board = board_of(0)
    put(board, 5, 0)
    put(board, 6, 0)
    lane = out(board)
    board.gain([Taken(1, BEGINNING, doubtful=False)])
    for at in (5, 6):
        put(board, at, 0)
    board.finish(lane)

    assert out(board).queue[0].position == (6, 0)


def test_a_lane_that_was_lost_is_not_worked_beside_its_former_self() -> None:
    """Ours again while an event of it is still out, it waits for that one."""
    board = board_of(0)
    put(board, 1, 0)
    lost = out(board)
    board.drop([0])
    board.gain([Taken(0, BEGINNING, doubtful=True)])
    put(board, 1, 0)

    assert board.next() is None

    board.finish(lost)

    assert out(board).queue[0].position == (1, 0)


def test_what_is_left_hands_nothing_out() -> None:
    """Lanes that are to go are idle ones first; one with an event out goes when that is done with."""
    board = board_of(0, 1)
    put(board, 1, 0)
    put(board, 2, 0)
    lane = out(board)

    assert board.leave(1) == [1]
    assert board.leave(2) == [1]

    board.finish(lane)

    assert board.next() is None
    assert board.leave(2) == [0, 1]


def test_a_cursor_is_never_far_behind() -> None:
    """After so many events a lane waits for its cursor to follow: what is tried with doubts is no more than these."""
    board = board_of(0)
    for at in range(1, UNMOVED + 3):
        put(board, at, 0)
    for _ in range(UNMOVED):
        board.finish(out(board))

    assert board.next() is None
    assert board.is_held_up

    moves = board.moves()
    board.moved(moves)

    assert moves == {0: just_before((UNMOVED + 1, 0))}
    assert out(board).queue[0].position == (UNMOVED + 1, 0)


def test_there_is_room_again_once_events_are_handled() -> None:
    """A board takes so many events, whatever lanes they are of."""
    board = board_of(0, 1)
    for at in range(1, MOST_EVENTS + 1):
        put(board, at, at % 2)

    assert not board.has_room

    board.finish(out(board))

    assert board.has_room


def test_what_fails_rests_and_comes_again() -> None:
    """Meanwhile its lane hands nothing out, and others do."""
    board = board_of(0, 1)
    put(board, 1, 0)
    put(board, 2, 1)
    failing = out(board)
    board.rest(failing)

    assert (out(board).number, board.next()) == (1, None)

    board.resume(failing)

    assert out(board) is failing


# --- merges ---


def test_a_merge_waits_for_the_lanes_of_all_its_keys() -> None:
    """It comes after what was published under the earlier keys, in lanes of ours and of others."""
    board = board_of(0, 1)
    put(board, 1, 1)
    put(board, 2, 0, merged=(subject_in(1), subject_in(2), subject_in(0, 1)))
    put(board, 3, 0)
    earlier = out(board)

    assert (earlier.number, board.next(), board.awaited()) == (1, None, {2})

    board.finish(earlier)
    board.hear({2: (1, 0)})

    assert board.next() is None

    board.hear({2: (2, 0)})

    assert out(board).queue[0].position == (2, 0)


def test_a_merge_that_is_not_wanted_is_waited_for_all_the_same() -> None:
    """What follows it in the survivor's lane stays behind what precedes it in the others."""
    board = board_of(0, 1)
    put(board, 1, 1)
    head = Head("2", "conversation.merged", subject_in(0))
    board.add(head, (2, 0), b"{}", wanted=False, merged=(subject_in(1),))
    put(board, 3, 0)
    earlier = out(board)

    assert board.next() is None

    board.finish(earlier)
    barrier = out(board)

    assert not barrier.queue[0].wanted


Stream = list[tuple[int, int, tuple[int, ...]]]


@given(st.integers(1, 4), st.integers(0, 2**32), st.data())
def test_merges_never_wait_in_a_circle(consumers: int, seed: int, data: st.DataObject) -> None:
    """However lanes are dealt out and merges lie across them, all is handled, in order through every merge."""
    lanes = st.integers(0, LANES - 1)
    entries: Stream = [
        (at, lane, tuple(merged))
        for at, (lane, merged) in enumerate(
            data.draw(st.lists(st.tuples(lanes, st.lists(lanes, max_size=3)), min_size=1, max_size=40)), 1
        )
    ]
    handled = _handled_by_all(entries, consumers, Random(seed))

    place = {at: number for number, at in enumerate(handled)}
    assert sorted(handled) == [at for at, _, _ in entries]
    for at, lane, merged in entries:
        before = [other for other, of, _ in entries if other < at and of in {lane, *merged}]
        assert all(place[other] < place[at] for other in before)


def _handled_by_all(entries: Stream, consumers: int, random: Random) -> list[int]:
    """Several boards that read and hand out in any order, and hear of each other's cursors now and then."""
    boards = [board_of(*(lane for lane in range(LANES) if lane % consumers == one)) for one in range(consumers)]
    read, cursors = [0] * consumers, dict[int, Position]()
    handled, busy = list[int](), list[tuple[Board, Lane]]()
    steps = 0
    while len(handled) < len(entries):
        steps += 1
        assert steps < 100 * (len(entries) + 10), "nothing moves any more"
        one = random.randrange(consumers)
        board = boards[one]
        for at, lane, merged in entries[read[one] : read[one] + random.randrange(4)]:
            put(board, at, lane, tuple(map(subject_in, merged)))
            read[one] += 1
        board.unblock()
        cursors |= board.moves()
        board.hear(cursors)
        found = board.next()
        if found is not None:
            busy.append((board, found))
        if busy and random.random() < 0.7:
            board, lane_out = busy.pop(random.randrange(len(busy)))
            handled.append(lane_out.queue[0].position[0])
            board.finish(lane_out)
    return handled
