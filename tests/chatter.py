"""Events put into the stream as a receiver would, many and quickly; and what subscribers made of them."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import orjson
from redis.asyncio import Redis

from schemas.keyspace import Keyspace

_TIME = "2026-11-21T12:21:36.419Z"


def subject_of(number: int) -> str:
    """The key of a conversation."""
    return f"cv_{number:026d}"


def event(subject: str, sequence: int, *, kind: str = "message.received", **data: Any) -> bytes:
    """An envelope: a message, unless another type and its data are given."""
    conversation = {
        "key": subject,
        "kind": "group",
        "participants": ["+15555550111", "+15555550122"],
        "lines": ["+15555550100"],
        "audience": "au_ccnbacgq3hjydp3ss7neddaifi",
        "provisional": False,
    }
    message = {
        "id": f"m-{subject[-6:]}-{sequence}",
        "direction": "inbound",
        "sender": "+15555550111",
        "text": "Lunch on Friday?",
        "media": [],
        "channel": "mms",
    }
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"telnyx:main-telnyx:{subject[3:]}-{sequence}",
            "source": "/webhooks/telnyx/main-telnyx",
            "type": kind,
            "subject": subject,
            "time": _TIME,
            "sequence": f"{sequence:016d}",
            "data": {
                "conversation": conversation,
                **(data or {"message": message}),
                "provider": {"name": "telnyx", "account": "main-telnyx", "type": kind, "ids": {}},
                "assurance": "signed",
                "received_at": _TIME,
                "capture": "cp_01a1feb0c7d39f4e6a2c80b51d7703e9",
                "replayed": False,
            },
        }
    )


def chatter(conversations: int, count: int, seed: int = 7) -> Iterator[bytes]:
    """Messages of many conversations, in no order but each one's own."""
    random, sequences = Random(seed), [0] * conversations
    for _ in range(count):
        one = random.randrange(conversations)
        sequences[one] += 1
        yield event(subject_of(one), sequences[one])


async def publish(redis: Redis, keyspace: Keyspace, envelopes: Iterable[bytes]) -> list[str]:
    """Append them to the stream in one go; their positions."""
    pipeline: Any = redis.pipeline(transaction=False)
    for envelope in envelopes:
        pipeline.xadd(keyspace.events, {"event": envelope})
    return [position.decode() for position in await pipeline.execute()]


def repeats(handled: Sequence[tuple[str, int]]) -> int:
    """How many handlings were not the first one of their event."""
    return len(handled) - len(set(handled))


def inversions(handled: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Events (subject and sequence) that were first handled after a later one of their conversation."""
    latest, seen, found = dict[str, int](), set[tuple[str, int]](), []
    for one in handled:
        if one not in seen:
            seen.add(one)
            subject, sequence = one
            if sequence < latest.get(subject, 0):
                found.append(one)
            latest[subject] = max(latest.get(subject, 0), sequence)
    return found
