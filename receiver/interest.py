"""Which events a person wants to see. Pure."""

from collections.abc import Iterable

import msgspec

from correlator.filtering import Filter
from receiver.naming import Naming
from receiver.selection import Selection
from schemas.reader import glance


class _Origin(msgspec.Struct):
    """Where an envelope says that it is from: `/webhooks/<provider>/<account>`."""

    source: str


_origin = msgspec.json.Decoder(_Origin)


class Interest:
    """What is asked of events: type, place, conversation, and whom they name. Whatever is empty asks nothing."""

    def __init__(self, selection: Selection, keys: Iterable[str]) -> None:
        """`keys`: all that mean one of the conversations selected, now."""
        self._filter = Filter(selection.types or None, frozenset(keys) if selection.conversations else None)
        self._providers, self._accounts = selection.providers, selection.accounts
        self._naming = Naming(selection.addresses) if selection.addresses else None

    def wants(self, envelope: bytes) -> bool:
        """Whether an event is to be seen. Bytes that are no envelope are not."""
        head = glance(envelope)
        if not head.id or not self._filter.wants(head):
            return False
        try:
            return self._is_from_there(envelope) and self._names_them(envelope)
        except (msgspec.DecodeError, UnicodeDecodeError):  # an id alone makes no envelope
            return False

    def is_moved_by(self, envelope: bytes) -> bool:
        """Whether an event changes which keys mean the conversations selected."""
        return self._filter.is_moved_by(glance(envelope), envelope)

    def _is_from_there(self, envelope: bytes) -> bool:
        if not (self._providers or self._accounts):
            return True
        provider, account = (*_origin.decode(envelope).source.split("/"), "", "", "", "")[2:4]
        return (not self._providers or provider in self._providers) and (
            not self._accounts or account in self._accounts
        )

    def _names_them(self, envelope: bytes) -> bool:
        return self._naming is None or self._naming.is_in_event(msgspec.json.decode(envelope))
