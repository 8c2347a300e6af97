"""Looks conversations up in all partitions: an account lives whole in one, a key or a person may be anywhere."""

import asyncio
from collections.abc import Sequence
from typing import Any

from correlator.lookup import Lookup, Page
from schemas.address import Address
from schemas.ids import ConversationKey, Scope
from schemas.keyspace import partition_of


class Lookups:
    """A look-up for each partition, in their order. All calls raise StoreError when Redis fails."""

    def __init__(self, lookups: Sequence[Lookup]) -> None:
        self._all = lookups

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self._all)

    def _of(self, account: str) -> Lookup:
        return self._all[partition_of(account, len(self._all))]

    async def scope(self, provider: str, account: str) -> Scope:
        """What the keys of an account derive under."""
        return await self._of(account).scope(provider, account)

    async def conversation(self, key: ConversationKey) -> dict[str, Any] | None:
        """What is known of a conversation, as `Lookup` shows it; None for a key never heard of anywhere."""
        found = await asyncio.gather(*(lookup.conversation(key) for lookup in self._all))
        return next((one for one in found if one is not None), None)

    async def by_id(self, provider: str, account: str, identifier: str, after: str, limit: int) -> Page:
        """Conversations that an id of the provider's leads to."""
        return await self._of(account).by_id(provider, account, identifier, after, limit)

    async def by_address(
        self, address: Address, provider: str | None, account: str | None, after: str, limit: int
    ) -> Page:
        """Conversations that somebody takes part in now, at one account or provider, or (None) anywhere."""
        where = self._all if account is None else [self._of(account)]
        pages = await asyncio.gather(*(lookup.by_address(address, provider, account, after, limit) for lookup in where))
        return joined(pages, limit)


def joined(pages: Sequence[Page], limit: int) -> Page:
    """One page made of the first pages of several look-ups, each in the order of the keys. Pure."""
    if len(pages) == 1:
        return pages[0]
    found = sorted((one for page in pages for one in page.conversations), key=lambda one: str(one["key"]))
    goes_on = len(found) > limit or any(page.after is not None for page in pages)
    return Page(found[:limit], found[limit - 1]["key"] if goes_on else None)
