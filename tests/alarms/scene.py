"""What a fault is done in: receivers under a job of their own, and the course of things that all faults share.

::

    prepare ──calm()──► do it ──alarm()──► mend it ──over()──► end

`calm` returns once everything of every fault is scraped and no alert stands; `alarm` once what is to stand does;
`over` once nothing is left to be seen.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from receiver.embedded import EmbeddedRedis
from tests.farm import free_port
from tests.processes import Service, service

#: So many services start at a time; more only take longer.
_AT_A_TIME = 4
#: How often somebody posts, with the rules as they are shipped, and at the most.
_POST_SECONDS, _LEAST_POST_SECONDS = 3.0, 0.2
_SCRAPE_SECONDS, _LEAST_SCRAPE_SECONDS = 15.0, 1.0
#: What Redis has not taken by then goes to the spool.
_DEADLINE = "400ms"


class Pace(msgspec.Struct, frozen=True):
    """How many times as quick as shipped the rules are."""

    factor: int = 1

    def seconds(self, shipped: float) -> float:
        """What takes so long with the rules as they are shipped."""
        return shipped / self.factor

    @property
    def post_seconds(self) -> float:
        """Between two callbacks of one who posts all the time."""
        return max(_LEAST_POST_SECONDS, _POST_SECONDS / self.factor)

    @property
    def scrape_seconds(self) -> float:
        """Between two scrapes, and two evaluations of the rules."""
        return max(_LEAST_SCRAPE_SECONDS, _SCRAPE_SECONDS / self.factor)


class Course:
    """What all faults share: their pace, a Redis that nothing happens to, and when it is time for what."""

    def __init__(self, folder: Path, pace: Pace, redis: EmbeddedRedis) -> None:
        self.folder = folder
        self.pace = pace
        self.redis = redis
        self.starting = asyncio.Semaphore(_AT_A_TIME)
        self.calm, self.alarm, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()


class Scene:
    """Where one fault is done."""

    def __init__(self, name: str, course: Course) -> None:
        self.job = f"partyline-{name}"
        self.folder = course.folder / name
        self.folder.mkdir()
        self.pace = course.pace
        #: Its receivers' ports by their names, as Prometheus is to know them.
        self.receivers: dict[str, int] = {}
        #: And where each runs.
        self.folders: dict[str, Path] = {}
        self.prepared = asyncio.Event()
        self._name = name
        self._course = course

    @property
    def redis(self) -> dict[str, Any]:
        """The `[redis]` section for the server that nothing happens to."""
        return at(self._course.redis.url)

    @asynccontextmanager
    async def receiver(self, name: str = "one", *, port: int | None = None, **sections: Any) -> AsyncIterator[Service]:
        """A running receiver with a spool of its own, once it is ready; at the harmless Redis unless told otherwise."""
        own = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        own.mkdir()
        self.folders[name] = own
        self.receivers[name] = port = port or free_port()
        server = {"port": port, **sections.pop("server", {})}
        redis = sections.pop("redis", self.redis)
        async with contextlib.AsyncExitStack() as stack:
            async with self._course.starting:
                running = await stack.enter_async_context(
                    service(own, self._name, redis=redis, server=server, **sections)
                )
            yield running

    async def calm(self) -> None:
        """All is prepared; returns once no alert stands."""
        self.prepared.set()
        await self._course.calm.wait()

    async def alarm(self) -> None:
        """It is done; returns once all that is to stand does."""
        await self._course.alarm.wait()

    async def over(self) -> None:
        """It is mended; returns once nobody looks any more."""
        await self._course.over.wait()


def at(url: str, deadline: str = _DEADLINE) -> dict[str, Any]:
    """The `[redis]` section for a server."""
    return {"url": url, "write_deadline": deadline}


@asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Things that go on for as long as the context lasts; what fails among them fails it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        yield
        for task in tasks:
            task.cancel()


async def again_and_again(do: Callable[[int], Awaitable[Any]], seconds: float) -> None:
    """Do something over and over, told how often it was done before, with a pause after each time."""
    number = 0
    while True:
        await do(number)
        number += 1
        await asyncio.sleep(seconds)


#: A fault: done to a scene, from beginning to end.
Do = Callable[[Scene], Awaitable[None]]


class Fault(msgspec.Struct, frozen=True):
    """A fault, and which alerts stand while it lasts: all of these under its job, and no other."""

    do: Do
    raises: frozenset[str] = frozenset()
    #: What may stand besides where the rules are quickened: the six seconds of a lease are minutes then.
    hurried: frozenset[str] = frozenset()
    #: Its receivers are not scraped more often than that.
    scrape_seconds: float = 0.0

    def allows(self, pace: Pace) -> frozenset[str]:
        """What may stand."""
        return self.raises if pace.factor == 1 else self.raises | self.hurried

    @property
    def did(self) -> str:
        """What is done, in a sentence."""
        return (self.do.__doc__ or "").splitlines()[0]


#: What looks back at counters for minutes; all others are out as soon as the fault is mended.
LOOKING_BACK = frozenset(
    {
        "PartylineAnswers503",
        "PartylineAnswersSlow",
        "PartylineDeadLetters",
        "PartylineQuarantineGrowing",
        "PartylineSignatureMismatches",
        "PartylineSourcesRefused",
        "PartylineStaleSignatures",
        "PartylineRefusalsJumped",
    }
)

Faults = Mapping[str, Fault]
