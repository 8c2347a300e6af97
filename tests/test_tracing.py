"""The trace of a request: told by its headers, kept with the capture, and in each event that comes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from receiver.captures import CaptureLog
from receiver.rebuilding import rebuild
from receiver.replay import Pace, Site, Tally, repair
from schemas.callback import Headers
from schemas.events import Evidence, group_identity
from schemas.keyspace import Keyspace
from schemas.reader import decode
from schemas.tracing import trace_of
from tests.captured import events, fill, site_of, work_off
from tests.engine import ANN, BOB, CAT, LINE, Engine, event, started
from tests.service import document, path, proof, running_app
from tests.service import events as published
from tests.service import work_off as worked_off
from tests.traffic import telnyx

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"


# --- what headers tell ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        PARENT[:-2] + "00",
        PARENT[:-2] + "ff",
        f"00-{'0' * 31}1-{'0' * 15}1-00",
    ],
)
def test_a_valid_traceparent_is_taken_as_it_is(parent: str) -> None:
    """Version 00 with any flags and any ids but those of zeros alone."""
    assert trace_of(((b"host", b"x"), (b"traceparent", parent.encode()))) == {"traceparent": parent}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT[:-1],
        PARENT + "-00",
        PARENT + "\n",
        " " + PARENT,
        PARENT.upper(),
        PARENT.replace("b7ad", "b7aG"),
        PARENT.replace("-", "_"),
        "01" + PARENT[2:],
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        "\u0660" * 55,
    ],
)
def test_an_invalid_traceparent_is_ignored(parent: str) -> None:
    """Another length, version, case or character, or an id of zeros: it is as if none had come, tracestate included."""
    assert trace_of(((b"traceparent", parent.encode()), (b"tracestate", STATE.encode()))) == {}


def test_two_traceparents_are_none() -> None:
    """Nobody knows which one counts, be they alike or not."""
    parent = (b"traceparent", PARENT.encode())

    assert trace_of((parent, parent)) == {}


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([STATE], STATE),
        (["rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"], STATE),
        (["rojo=00f067aa0ba902b7 ,\t congo=t61rcWkgMzE,,"], STATE),
        (["fw529a3039@dt=FfAA"], "fw529a3039@dt=FfAA"),
        (["1a@vendor=x y"], "1a@vendor=x y"),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
        (["a=" + "x" * 256], "a=" + "x" * 256),
    ],
)
def test_a_valid_tracestate_comes_along(values: list[str], state: str) -> None:
    """One list, however many headers it came in; without white space and empty members around its own."""
    headers = ((b"traceparent", PARENT.encode()), *((b"tracestate", value.encode()) for value in values))

    assert trace_of(headers) == {"traceparent": PARENT, "tracestate": state}


@pytest.mark.parametrize(
    "state",
    [
        "",
        " , ",
        "rojo",
        "rojo=",
        "=1",
        "Rojo=1",
        "1a=1=2",
        "rojo=ü",
        "rojo=\x07",
        "rojo=1,rojo=2",
        "rojo=1,broken",
        "a@b@c=1",
        "a@1vendor=1",
        "a=" + "x" * 257,
        ",".join(f"k{number}=v" for number in range(33)),
        ",".join(f"k{number}=" + "v" * 170 for number in range(3)),
    ],
)
def test_an_invalid_tracestate_is_left_out_and_the_traceparent_stays(state: str) -> None:
    """What vendors wrote is carried whole or not at all, and never beyond 32 members or 512 characters."""
    headers = ((b"traceparent", PARENT.encode()), (b"tracestate", state.encode()))

    assert trace_of(headers) == {"traceparent": PARENT}


def test_a_tracestate_alone_is_nothing() -> None:
    """Without the trace that it belongs to it says nothing."""
    assert trace_of(((b"tracestate", STATE.encode()),)) == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"traceparent", b"tracestate", b"host"]),
            st.one_of(st.binary(max_size=80), st.just(PARENT.encode()), st.from_regex(rb"[a-z]=[!-~]{1,5}")),
        ),
        max_size=6,
    )
)
def test_no_header_is_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever the headers hold, there is a trace of the right form or none."""
    found = trace_of(tuple(headers))

    assert set(found) in ({"traceparent", "tracestate"}, {"traceparent"}, set())
    assert all(text.isascii() and text.isprintable() for text in found.values())


# --- from the request to the subscriber -------------------------------------------------------------------


async def test_the_trace_of_a_request_is_in_its_event(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """With valid headers, invalid ones, or none: the callback is taken, and the event has what was valid."""
    sent: list[Headers] = [
        ((b"traceparent", PARENT.encode()), (b"tracestate", STATE.encode())),
        ((b"traceparent", b"00-not-a-trace-01"), (b"tracestate", STATE.encode())),
        (),
    ]
    configuration = document(keyspace.namespace)
    async with running_app(configuration, redis_url) as client:
        for number, more in enumerate(sent):
            body = telnyx(str(number))
            headers = [*proof("telnyx", body), *more]
            answer = await client.post(path("telnyx"), content=body, headers=headers)
            assert answer.status_code == 200
    await worked_off(configuration, redis_url)
    found = await published(redis, keyspace)

    assert [(each.get("traceparent"), each.get("tracestate")) for each in found] == [
        (PARENT, STATE),
        (None, None),
        (None, None),
    ]


async def test_what_follows_from_an_event_has_the_trace_of_its_capture(redis: Redis, keyspace: Keyspace) -> None:
    """A list that shows another member: the change and the message are both of the request that brought it."""
    engine: Engine = await started(redis, keyspace)
    club = group_identity("", "club")
    for name, listed, trace in (("one", (ANN, BOB), ()), ("two", (ANN, CAT), ((b"traceparent", PARENT.encode()),))):
        evidence = Evidence(club, lines=(LINE,), listed=(LINE, *listed), joined=(ANN,))
        await engine.feed(event(name, evidence), headers=trace)
    found = [decode(raw) for raw in await engine.raw_events()]

    assert [(each.type, each.traceparent, each.tracestate) for each in found] == [
        ("message.received", None, None),
        ("conversation.members", PARENT, None),
        ("message.received", PARENT, None),
    ]


def traces(found: list[dict[str, Any]]) -> dict[str, tuple[str | None, str | None]]:
    """The trace of each event, by its id."""
    return {each["id"]: (each.get("traceparent"), each.get("tracestate")) for each in found}


async def test_reading_again_gives_the_same_traces(redis: Redis, namespace: str) -> None:
    """A repair and a rebuild of a log in which every third request was traced carry what was carried at first."""
    site: Site = site_of(redis, namespace)
    log = CaptureLog(redis, site.keyspace)
    await fill(site, 300)
    await work_off(site)
    before = traces(await events(site))
    await redis.delete(site.keyspace.events)
    await repair(site, log.scan(), Pace(), Tally())
    target = site_of(redis, f"{namespace}-2", keys_of=namespace)
    await rebuild(target, log.scan(), Pace(), Tally())

    assert {state for _, state in before.values()} == {None, "gw=1"}
    assert traces(await events(site)) == before
    assert traces(await events(target)) == before
