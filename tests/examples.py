"""What tests of the programs in deploy/examples share: a receiver's settings, callbacks, and how far a group is."""

import asyncio
from pathlib import Path

import orjson

from correlator.subscribe import Lag, Subscription
from tests.bodies import Posted
from tests.processes import Service

EXAMPLES = Path(__file__).parent.parent / "deploy" / "examples"
TOKEN = "api-Heron-for-tests"
#: The `[server]` section of a receiver that takes sends.
SERVER = {"port": 0, "api_tokens": [TOKEN]}


async def receive(receiver: Service, posted: Posted) -> None:
    """Post a callback, signed, until it is taken, as providers do."""
    async with asyncio.timeout(30):
        body = orjson.dumps(posted.body)
        while (await receiver.post(posted.provider, body)).status_code != 200:  # noqa: ASYNC110 - the answer tells
            await asyncio.sleep(0.1)


async def register(receiver: Service, posted: Posted) -> None:
    """Register a send."""
    path = f"/v1/outbound/{posted.provider}/main-{posted.provider}"
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    answer = await receiver.client.post(path, content=orjson.dumps(posted.body), headers=headers)
    assert answer.status_code == 200


async def level(receiver: Service, group: str) -> None:
    """Wait until a group has handled all of the stream."""
    subscription = _group(receiver, group)
    async with asyncio.timeout(30):
        while await subscription.lag() != Lag(0.0, None):  # noqa: ASYNC110 - the end is in Redis
            await asyncio.sleep(0.05)


async def joined(receiver: Service, group: str) -> None:
    """Wait until there is a group: from then on it gets what is published."""
    subscription = _group(receiver, group)
    async with asyncio.timeout(30):
        while await subscription.lag() is None:  # noqa: ASYNC110 - the group is in Redis
            await asyncio.sleep(0.02)


def _group(receiver: Service, group: str) -> Subscription:
    return Subscription(receiver.space.redis, namespace=receiver.space.keys.namespace, group=group)
