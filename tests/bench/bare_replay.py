"""The barest replay: every capture of a log is read, its body parsed, and an event of it written. No rule of ours.

It is what any program in Python spends at least on the same captures with the same libraries, and so what stands beside
the figures of a rebuild: those are as much the machine's and the hour's as ours.
"""

import sys
from typing import Any, Final

import orjson
import uvloop

from correlator.redis_client import connect
from schemas.keyspace import Keyspace

_PAGE: Final = 64


async def replay(url: str, namespace: str) -> int:
    """Write an event of each capture to a stream of its own; how many that was."""
    redis: Any = connect(url, 60.0)
    captures, written = Keyspace(namespace).captures, Keyspace(f"{namespace}-bare").events
    await redis.delete(written)
    after, count = "-", 0
    while page := await redis.xrange(captures, after, "+", count=_PAGE):
        pipeline = redis.pipeline(transaction=False)
        for _, fields in page:
            pipeline.xadd(written, {"event": orjson.dumps(_event(fields))})
        await pipeline.execute()
        after, count = f"({page[-1][0].decode()}", count + len(page)
    await redis.aclose()
    return count


def _event(fields: dict[bytes, bytes]) -> dict[str, Any]:
    provider, account = fields[b"provider"].decode(), fields[b"account"].decode()
    return {
        "specversion": "1.0",
        "id": fields[b"id"].decode(),
        "source": f"/webhooks/{provider}/{account}",
        "time": fields[b"received_at"].decode(),
        "data": orjson.loads(fields[b"body"]),
    }


if __name__ == "__main__":
    print(uvloop.run(replay(*sys.argv[1:])))
