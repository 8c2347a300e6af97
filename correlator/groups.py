"""What changes in groups besides what a provider says in so many words: members that drift, names, keywords. Pure.

A provider without member events (Sendblue, Sinch) tells of its groups in passing: in a list beside a message, by who
writes, by whom a report names. What that changes is an event that follows from the fact.
"""

import msgspec

from correlator.circles import Account, Heeded
from correlator.clusters import Clusters
from correlator.conversation import Conversation, identified
from correlator.identity import identity_key
from correlator.members import Roster
from correlator.records import Records
from correlator.rollup import Rollup
from correlator.users import reading
from schemas.address import Address
from schemas.events import (
    ConversationMembers,
    ConversationSettings,
    EventBody,
    Evidence,
    Keywords,
    Members,
    Settings,
)
from schemas.ids import ConversationKey, Scope
from schemas.value import Value


class Change(Value, frozen=True):
    """What has changed in one conversation: `members` or `settings`, and how."""

    word: str
    key: ConversationKey
    body: EventBody


class Groups:
    """Changes of groups since the last `forget_changes`."""

    def __init__(self, records: Records, clusters: Clusters) -> None:
        self._records = records
        self._clusters = clusters
        self.changes: list[Change] = []

    def forget_changes(self) -> None:
        """Begin anew."""
        self.changes = []

    def changed(self, key: ConversationKey, before: Conversation, after: Conversation, body: EventBody) -> EventBody:
        """Note what a fact has changed in its conversation; the fact's own body says it where it is about members."""
        if isinstance(body, ConversationMembers):
            body = ConversationMembers(_effect(body.members, before, after))
        elif before.roster.complete:
            self._note_members(key, before, after, inferred=False)
        name = after.title.name if after.title else None
        told = body.settings.subject if isinstance(body, ConversationSettings) else None
        if name is not None and name not in {told, before.title.name if before.title else None}:
            settings = Settings(change="changed", subject=name)
            self.changes.append(Change("settings", key, ConversationSettings(settings)))
        return body

    def _note_members(self, key: ConversationKey, before: Conversation, after: Conversation, *, inferred: bool) -> None:
        were, are = _people(before, after), _people(after, after)
        if were != are:
            members = Members(tuple(sorted(are - were)), tuple(sorted(were - are)), inferred=inferred)
            self.changes.append(Change("members", key, ConversationMembers(members)))

    # --- groups whose provider tells of them nowhere else ---

    def learn(self, scope: Scope, after: Rollup) -> None:
        """Take the members of a group from the report on a message that went to that group and to nobody else."""
        if after.group is None or after.listed is None:
            return
        key = identity_key(scope, after.group)
        known = self._clusters.find(key) or identified(after.group, scope.path)
        at, people = after.listed
        self._infer(key, known, known.roster.with_list(people, at))

    def hear(self, scope: Scope, key: ConversationKey, evidence: Evidence, at: int) -> None:
        """Note by which words people join a group; see whether somebody just wrote such a word.

        Words count from their registration on: what they were before is not known, and may have been something else.
        """
        if evidence.keywords is not None:
            self._heed(scope, key, Heeded(at, evidence.keywords))
        ends = reading(evidence.identity, evidence.lines) if evidence.said else None
        if ends is None:
            return
        account = self._records.find(Account, scope.whole_account()) or Account()
        for group, words in account.keywords.items():
            if words.keywords.line == ends[0]:
                self._move(ConversationKey(group), words.keywords, evidence.said, ends[1], at)

    def _heed(self, scope: Scope, key: ConversationKey, words: Heeded) -> None:
        account = self._records.find(Account, scope.whole_account()) or Account()
        before = account.keywords.get(key)
        if before is None or before.at <= words.at:
            keywords = {**account.keywords, key: words}
            self._records.set(scope.whole_account(), msgspec.structs.replace(account, keywords=keywords))

    def _move(self, key: ConversationKey, words: Keywords, said: tuple[str, ...], contact: Address, at: int) -> None:
        known = self._clusters.known(key)
        for word, out in ((words.join, False), (words.leave, True)):
            if word and said[: len(word)] == word:
                self._infer(key, known, known.roster.with_deltas((contact,), at, out=out))

    def _infer(self, key: ConversationKey, known: Conversation, roster: Roster) -> None:
        after = msgspec.structs.replace(known, roster=roster, audience=None)
        self._records.set(key, after)
        self._note_members(key, known, after, inferred=True)


def _people(conversation: Conversation, now: Conversation) -> frozenset[Address]:
    """Who was in it, by what is known now of who is who and which lines are ours."""
    same = now.same
    return frozenset(same.get(member, member) for member in conversation.members).difference(now.lines)


def _effect(told: Members, before: Conversation, after: Conversation) -> Members:
    """What a change of members came to: a late one has no effect, nor has one that was known already."""
    same = after.same

    def took_effect(address: Address, *, out: bool) -> bool:
        now = after.roster.is_in(address, same)
        return now is (not out) and before.roster.is_in(address, same) is not now

    added = tuple(same.get(one, one) for one in told.added if took_effect(one, out=False))
    removed = tuple(same.get(one, one) for one in told.removed if took_effect(one, out=True))
    stale = bool(told.added or told.removed) and not (added or removed)
    return msgspec.structs.replace(told, added=added, removed=removed, stale=stale)
