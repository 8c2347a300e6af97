"""A consumer as a process of its own, that notes each event which it has handled in a list at Redis.

`python -m tests.subscriber '{"url": …, "namespace": …, "group": …, "notes": …}'`; see `Told` for the rest.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import msgspec

from correlator.redis_client import connect
from correlator.subscribe import Retry, Subscription
from schemas.errors import StoreError
from schemas.reader import Published


class Told(msgspec.Struct):
    """What the process is to do."""

    url: str
    namespace: str
    group: str
    #: The list that handled events go into, each as `subject sequence pid`.
    notes: str
    start: str = "beginning"
    lease_seconds: float = 0.6
    partitions: int = 1
    tries: int = 5
    #: Iterate instead of handing events to a handler.
    loop: bool = False
    #: The id of an event that kills the process, and of one whose handler fails.
    deadly: str = ""
    failing: str = ""
    #: Seconds that each event takes.
    takes: float = 0.0


async def main(told: Told) -> None:
    """Subscribe until SIGTERM."""
    notes: Any = connect(told.url, 5.0)
    subscription = Subscription(
        told.url,
        namespace=told.namespace,
        group=told.group,
        start=told.start,
        partitions=told.partitions,
        lease_seconds=told.lease_seconds,
        retry=Retry(told.tries, 0.01, 0.05),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, subscription.stop)

    async def handle(event: Published) -> None:
        if event.id == told.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if event.id == told.failing:
            raise ValueError(event.id)
        if told.takes:
            await asyncio.sleep(told.takes)
        await note(notes, told.notes, event)

    print("begins", flush=True)
    if told.loop:
        async with subscription:
            async for event in subscription:
                await handle(event)
    else:
        await subscription.run(handle)
    await notes.aclose()


async def note(redis: Any, name: str, event: Published) -> None:
    """Note a handled event, however long that takes."""
    while True:
        try:
            await redis.rpush(name, f"{event.subject} {event.sequence} {os.getpid()}")
        except Exception as error:  # noqa: BLE001 - the server is away, which is some tests' point
            print(StoreError(str(error)), file=sys.stderr)
            await asyncio.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Told)))
