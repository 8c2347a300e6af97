"""Callbacks of one provider, as many as wanted and each a fact of its own; and whether the stream has each once."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import orjson

from receiver.schemes import Signed
from tests.processes import Service
from tests.service import LINE, path

ANN, BOB, CAT, DAN = "+15555550111", "+15555550112", "+15555550113", "+15555550114"


def telnyx(name: str, *, others: Sequence[str] = (BOB,), attempt: int = 1) -> bytes:
    """Ann writes to a group at Telnyx; the fact's id is `telnyx:main-telnyx:<name>`."""
    payload = {
        "direction": "inbound",
        "type": "MMS",
        "id": f"message-{name}",
        "from": {"phone_number": ANN},
        "to": [{"phone_number": LINE}],
        "cc": [{"phone_number": number} for number in others],
        "text": "Is the ferry running?",
    }
    return telnyx_event("message.received", name, payload, attempt)


def telnyx_event(event_type: str, name: str, payload: dict[str, Any], attempt: int = 1) -> bytes:
    """One posted event, as Telnyx wraps it."""
    data = {"record_type": "event", "event_type": event_type, "id": name, "payload": payload}
    return orjson.dumps(
        {
            "data": {**data, "occurred_at": datetime.now(UTC).isoformat()},
            "meta": {"attempt": attempt, "delivered_to": "https://hooks.example.com/telnyx"},
        }
    )


def report(
    name: str, recipient: str, message: str = "message-to-all", others: Sequence[str] = (ANN, BOB, CAT)
) -> bytes:
    """One recipient's report on a group message that all of them share; who that is, it says in `others`."""
    payload = {
        "direction": "outbound",
        "type": "MMS",
        "id": message,
        "group_message_id": message,
        "from": {"phone_number": LINE},
        "to": [{"phone_number": recipient, "status": "delivered"}],
        "cc": [{"phone_number": number} for number in others],
        "text": "It is.",
    }
    return telnyx_event("message.finalized", name, payload)


def facts(events: list[dict[str, Any]]) -> Counter[str]:
    """How often each Telnyx fact stands in the stream, by its name."""
    return Counter(event["id"].removeprefix("telnyx:main-telnyx:") for event in events)


def sequences(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The sequence numbers of each subject in stream order."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in events:
        found[event["subject"]].append(int(event["sequence"]))
    return found


def without_gap_or_repeat(events: list[dict[str, Any]]) -> bool:
    """Whether every subject counts 1, 2, 3 … in stream order."""
    return all(numbers == list(range(1, len(numbers) + 1)) for numbers in sequences(events).values())


async def post_facts(
    client: httpx.AsyncClient,
    sign: Callable[[bytes], Signed],
    tag: str,
    answered: list[str],
    *more: tuple[bytes, bytes],
) -> None:
    """Post one new fact after the other, with these headers besides, for ever. Whatever is not a 200 ends it."""
    for number in count():
        body = telnyx(f"{tag}-{number}", others=(BOB, CAT))
        response = await client.post(path("telnyx"), content=body, headers=[*more, *sign(body)])
        assert response.status_code == 200, response.text
        answered.append(f"{tag}-{number}")


async def keep_sending(running: Service, tag: str, answered: list[str], refused: list[httpx.Response]) -> None:
    """Post one new fact after the other until nobody listens; note those answered 200, and every other answer."""
    for number in count():
        name = f"{tag}-{number}"
        try:
            response = await running.post("telnyx", telnyx(name, others=(BOB, CAT)))
        except httpx.TransportError:
            return
        if response.status_code == 200:
            answered.append(name)
        else:
            refused.append(response)
            await asyncio.sleep(0.05)
