"""What a conversation's key will be, for who sends and wants to know it before the first callback.

>>> keys = Keys("prod", "telnyx", "main-telnyx", id_key)
>>> keys.of_set("+15555550100", "(555) 555-0111", "+15555550122")
'cv_…'

Addresses may be written as the provider writes them; they are brought into their canonical form first. The recipe
itself, for other languages, stands in correlator/README.md with vectors.
"""

from schemas.address import Address, AddressError, parse_address
from schemas.events import Identity, group_identity, pair_identity, set_identity, user_identity
from schemas.ids import ConversationKey, Scope


class Keys:
    """The keys of one account's conversations. Every method raises AddressError for a text that is no address."""

    def __init__(self, namespace: str, provider: str, account: str, id_key: str = "") -> None:
        """All four as the configuration has them; `id_key` resolved, without `env:` or `file:`."""
        self._scope = Scope(id_key.encode(), namespace, provider, account)

    def of_set(self, *addresses: str) -> ConversationKey:
        """Telnyx, a Sendblue group without an id: everybody in it, our own line included; two are a 1:1."""
        return self._key(set_identity(frozenset(map(self._address, addresses))))

    def of_pair(self, line: str, contact: str) -> ConversationKey:
        """A 1:1 of Sendblue, Sinch or a WhatsApp user known by phone (the line is `whatsapp:<phone_number_id>`)."""
        return self._key(pair_identity(self._address(line), self._address(contact)))

    def of_user(self, phone_number_id: str, user_id: str) -> ConversationKey:
        """A 1:1 with a WhatsApp user known by a user id."""
        provider = self._scope.provider
        return self._key(user_identity(f"{provider}:{phone_number_id}", f"{provider}:{user_id}"))

    def of_group(self, group_id: str, phone_number_id: str = "") -> ConversationKey:
        """A group with an id of its own; WhatsApp's is unique under the phone number id that it belongs to."""
        return self._key(group_identity(phone_number_id, group_id))

    def _address(self, text: str) -> Address:
        if text.startswith(f"{self._scope.provider}:"):
            return Address(text)
        address = parse_address(text, self._scope.provider)
        if address is None:
            raise AddressError("an address without anything in it")
        return address

    def _key(self, identity: Identity) -> ConversationKey:
        return self._scope.conversation(identity.kind, identity.parts)
