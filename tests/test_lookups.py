"""Look-ups over several partitions."""

from typing import Any

import pytest
from redis.asyncio import Redis

from correlator.lookup import Lookup, Page
from correlator.lookups import Lookups, joined
from schemas.ids import ConversationKey, key_of
from schemas.keyspace import keyspaces, partition_of
from tests.captured import site_of


def page(*keys: str, after: str | None = None) -> Page:
    """What one look-up finds."""
    return Page([{"key": key} for key in keys], after)


@pytest.mark.parametrize(
    ("pages", "found", "after"),
    [
        ([page("b", "d"), page("a", "c")], ["a", "b", "c"], "c"),
        ([page("b"), page("a")], ["a", "b"], None),
        ([page("a", "b", "c"), page()], ["a", "b", "c"], None),
        ([page("a", "b", "c", after="c"), page()], ["a", "b", "c"], "c"),
        ([page("a", "c", "e", after="e"), page("b", "d", "f", after="f")], ["a", "b", "c"], "c"),
        ([page(), page()], [], None),
    ],
)
def test_pages_of_partitions_are_joined_in_the_order_of_keys(
    pages: list[Page], found: list[str], after: str | None
) -> None:
    """A page holds the smallest keys of all, and tells where the next begins exactly when there is more."""
    whole = joined(pages, 3)

    assert [one["key"] for one in whole.conversations] == found
    assert whole.after == after


@pytest.mark.parametrize(
    ("account", "partition"),
    # CRC-32: zlib's and gzip's, 0x07d2fa7d of "main-telnyx".
    [("main-sinch", 0), ("main-telnyx", 1), ("main-sendblue", 2), ("main-whatsapp", 2)],
)
def test_an_account_is_in_one_partition(account: str, partition: int) -> None:
    """Its name alone tells which, and with one partition everything is in that."""
    assert partition_of(account, 3) == partition
    assert partition_of(account, 1) == 0


async def test_a_key_that_is_nowhere_is_unknown(redis: Redis, namespace: str) -> None:
    """It is asked for everywhere."""
    site: Any = site_of(redis, namespace)
    lookups = Lookups([Lookup(redis, keys, site.settings.id_key) for keys in keyspaces(namespace, 3)])

    assert lookups.partitions == 3
    assert await lookups.conversation(ConversationKey(key_of(bytes(16)))) is None
