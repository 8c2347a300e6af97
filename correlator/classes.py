"""Classes of message ids over their records: who joins, who claims, and which keys lead where. Pure.

The rules are those of `correlator.pointers`; this is what they do to records.
"""

from collections.abc import Iterable

import msgspec

from correlator.clusters import Clusters, compatible
from correlator.conversation import Conversation, provisional, redirect, together, unheard_of
from correlator.identity import BY_HINT, BY_PERSON, BY_SETTING, Decision
from correlator.pointers import Claim, PointerClass, joined
from correlator.records import Records
from correlator.rollup import Rollup
from correlator.rollup import joined as joined_rollups
from schemas.events import Kind, Link
from schemas.ids import ConversationKey, Scope


class PointerClasses:
    """The classes that the facts of a batch name."""

    def __init__(self, records: Records, clusters: Clusters) -> None:
        self._records = records
        self._classes = records.shelf(PointerClass)
        self._clusters = clusters

    def root(self, pointer: ConversationKey) -> ConversationKey:
        """What the class of a pointer stands under; the pointer itself where no fact has named it yet."""
        while (known := self._classes[pointer]) is not None and known.leads_to:
            pointer = known.leads_to
        return pointer

    def of(self, pointer: ConversationKey) -> PointerClass:
        """The class of a pointer, with those that a person says are the same conversation's."""
        return joined(self._linked(self.root(pointer)).values())

    def join(self, decision: Decision, claims: Iterable[Claim]) -> tuple[ConversationKey, bool]:
        """Put a fact into the class of its pointers, with what it claims; its root, and whether that is news."""
        anchors = decision.pointers or ((decision.anchor,) if decision.anchor else ())
        wanted = ((decision.key, decision.kind),) if decision.provisional else ()
        told = PointerClass(members=anchors, claims=tuple(claims), wanted=wanted)
        roots = {self.root(anchor) for anchor in anchors}
        classes = [known for root in sorted(roots) if (known := self._classes[root]) is not None]
        if len(classes) == 1 and classes[0].has(told):
            self._records.set(classes[0].root, classes[0])
            return classes[0].root, False
        after = joined([*classes, told]) if classes else told
        root = after.root
        self._records.set(root, after)
        for member in {*roots, *anchors} - {root}:
            self._move_rollup(member, root)
            self._records.set(member, PointerClass(leads_to=root))
        return root, True

    def _move_rollup(self, before: ConversationKey, root: ConversationKey) -> None:
        known = self._records.find(Rollup, before)
        if known is not None:
            there = self._records.find(Rollup, root) or Rollup()
            self._records.set(root, joined_rollups(there, known))

    def claim(self, pointer: ConversationKey, claim: Claim) -> ConversationKey:
        """Add a claim to the class of a pointer that a fact has named; the root."""
        root = self.root(pointer)
        self._records.set(root, self._known(root).with_claim(claim))
        return root

    def unclaim(self, pointer: ConversationKey, claim: Claim, wanted: tuple[ConversationKey, Kind]) -> ConversationKey:
        """Take a claim back from the class of a pointer, and have the fact want another key instead; the root."""
        root = self.root(pointer)
        self._records.set(root, self._known(root).without_claim(claim, wanted))
        return root

    def _known(self, root: ConversationKey) -> PointerClass:
        known = self._classes[root]
        return PointerClass(members=(root,)) if known is None else known

    def _linked(self, root: ConversationKey) -> dict[ConversationKey, PointerClass]:
        """The class with those that a person says are the same conversation's, by root."""
        known = self._known(root)
        if not known.links:
            return {root: known}
        found, open_ends = dict[ConversationKey, PointerClass](), [root]
        while open_ends:
            root = open_ends.pop()
            if root not in found:
                found[root] = self._known(root)
                open_ends += [self.root(link) for link in found[root].links]
        return found

    # --- serving ---

    def serve(self, scope: Scope, root: ConversationKey, kind: Kind) -> ConversationKey:
        """The key that a fact of that kind without an identity belongs to; there is a record under it."""
        linked = self._linked(root)
        view = joined(linked.values()) if len(linked) > 1 else linked[root]
        key = view.serve(scope, kind)
        if key not in [claim.key for claim in view.claims]:
            self._open(scope, view, key)
        return key

    def rests_on_setting(self, root: ConversationKey, kind: Kind) -> bool:
        """Whether nothing better than a setting says where a fact of that kind belongs."""
        return joined(self._linked(root).values()).strongest(kind) == BY_SETTING

    def _open(self, scope: Scope, view: PointerClass, key: ConversationKey) -> None:
        """See that the class's own provisional conversation is there, and that it is among those to be sent on."""
        holder = self._known(view.root)
        named = dict((*holder.wanted, *holder.opened))
        kind = named.get(key) or view.own(scope)[key]
        if key not in named:
            opened = tuple(sorted((*holder.opened, (key, kind))))
            self._records.set(view.root, msgspec.structs.replace(holder, opened=opened))
        if not self._clusters.is_heard_of(key):
            self.begin(scope, key, provisional(kind, view.root, key, scope.path))

    def send_on(self, scope: Scope, root: ConversationKey, *, undone: bool = False) -> None:
        """Have each provisional key of a class, and of those linked with it, lead to where its kind belongs now.

        A key that nothing claims stays where it led before, as its class may have expired since; unless a person has
        taken back what led it there.
        """
        wanted = sorted({key for known in self._linked(root).values() for key in (*known.wanted, *known.opened)})
        for key, kind in wanted:
            if not self._clusters.is_heard_of(key):
                self.begin(scope, key, provisional(kind, root, key, scope.path))
        for key, kind in wanted:
            target = self.serve(scope, root, kind)
            if target == key and undone:
                self._restore(key)
            elif target != key:
                self._lead(key, self._clusters.known(key), target)

    def _lead(self, key: ConversationKey, before: Conversation, target: ConversationKey) -> None:
        """Lead a key to its target."""
        if before.merged_into == target:
            return
        self._clusters.note(key)
        into = self._clusters.known(target)
        if before.merged_into is None and into.provisional:
            self._records.set(target, together(into, [before]))
        if not before.unseen:
            self._clusters.follow(key, before.merged_into, target)
        self._records.set(key, redirect(before, target, announced=not before.unseen))

    def publish(self, key: ConversationKey) -> None:
        """Something is published under a provisional key, though it may lead elsewhere: readers must be told where."""
        known = self._clusters.known(key)
        if known.unseen and known.merged_into is not None:
            self._clusters.note(key, before=key)
            self._records.set(key, msgspec.structs.replace(known, provisional=False, unseen=False))
            self._clusters.follow(key, None, known.merged_into)
        else:
            self._clusters.publish(key)

    def _restore(self, key: ConversationKey) -> None:
        """What led a key elsewhere was taken back: it stands for itself again."""
        known = self._clusters.find(key)
        if known is None or known.merged_into is None:
            return
        self._clusters.note(key)
        if not known.unseen:
            self._clusters.follow(key, known.merged_into, None)
        self._records.set(key, msgspec.structs.replace(known, merged_into=None, provisional=True))

    # --- a person's links ---

    def begin(self, scope: Scope, key: ConversationKey, opened: Conversation) -> None:
        """Set the first record of a key; a person may have linked it before anything was heard of it."""
        linked = self._clusters.find(key)
        self._records.set(key, opened if linked is None else msgspec.structs.replace(opened, links=linked.links))
        if linked is not None:
            self._relink(scope, key)

    def link(self, scope: Scope, link: Link, *, undone: bool) -> None:
        """Do what a person says of two keys, or take it back."""
        for key, other in ((link.one, link.other), (link.other, link.one)):
            known = self._clusters.find(key) or unheard_of()
            links = {*known.links} - {other} if undone else {*known.links, other}
            self._records.set(key, msgspec.structs.replace(known, links=tuple(sorted(links))))
        for key in (link.one, link.other):
            self._relink(scope, key, undone=undone)

    def _relink(self, scope: Scope, key: ConversationKey, *, undone: bool = False) -> None:
        """Do what the links of a key say, as far as both ends of each have been heard of."""
        known = self._clusters.known(key)
        if known.is_identity:
            self._clusters.settle([key])
        for end in (key, *known.links):
            there = self._clusters.find(end)
            if there is not None and there.is_provisional_key:
                self.send_on(scope.of(there.account), self._claim_by_person(end), undone=undone)

    def _claim_by_person(self, key: ConversationKey) -> ConversationKey:
        """Have a provisional key's class be claimed by, and linked with, what a person says; the class's root."""
        root = self.root(self._anchor(key))
        known = self._known(root)
        named = (key, self._clusters.known(key).kind)
        wanted = known.wanted if named in known.opened else tuple(sorted({*known.wanted, named}))
        claims = {claim for claim in known.claims if claim.rank != BY_PERSON}
        claims |= {Claim(BY_HINT, kind, None) for _, kind in wanted if kind != "unknown"}
        links = set[ConversationKey]()
        for own, kind in (*wanted, *known.opened):
            told, linked = self._said_of(own, kind)
            claims |= told
            links |= linked
        bare = msgspec.structs.replace(known, wanted=wanted, claims=(), links=tuple(sorted(links)))
        self._records.set(root, joined([bare, PointerClass(claims=tuple(claims))]))
        return root

    def _said_of(self, key: ConversationKey, kind: Kind) -> tuple[set[Claim], set[ConversationKey]]:
        """What a person says of one provisional key: identities that it is, anchors that it belongs with."""
        claims, links = set[Claim](), set[ConversationKey]()
        own = self._clusters.find(key)
        for other in own.links if own else ():
            record = self._clusters.find(other)
            if own is None or record is None or not compatible(kind, record.kind):
                continue
            if record.is_identity:
                claims.add(Claim(BY_PERSON, record.kind, other))
            elif record.is_provisional_key and record.account == own.account:
                links.add(self._anchor(other))
        return claims, links

    def _anchor(self, key: ConversationKey) -> ConversationKey:
        return self._clusters.known(key).anchor or key
