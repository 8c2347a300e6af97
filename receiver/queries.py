"""What is asked when conversations are looked up: by which id or address, and which page of the answer. Pure.

The same for `/v1` and for the command line: both hand in names and texts, and get one `Query` or a refusal.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.address import MAX_LENGTH, Address, AddressError, parse_address
from schemas.errors import CallbackError, UnknownAccount

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a look-up is asked for. One of `id`, which needs `account`, and `address`; empty counts as not given."""

    #: Whose; an account's own provider where that is named.
    provider: str | None = None
    #: Within which account.
    account: str | None = None
    #: Any id of the provider's: of a message, a batch, a group.
    id: str | None = None
    #: A participant: a phone number, an e-mail, or `<provider>:<text>`.
    address: str | None = None
    #: How many a page.
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    #: Where the page before ended.
    after: str | None = None


_PARAMETERS = Parameters.__struct_fields__


class UnknownConversation(CallbackError):
    """Nothing was ever published under that key."""

    reason = "unknown_conversation"
    status = 404


class UnreadableAddress(CallbackError):
    """A text that is no address of the provider's."""

    reason = "unreadable_address"
    status = 422


class ById(msgspec.Struct, frozen=True):
    """Any id of the provider's: of a message, a batch, a group."""

    provider: str
    account: str
    identifier: str


class ByAddress(msgspec.Struct, frozen=True):
    """A participant, at every account unless one or a provider is named."""

    address: Address
    provider: str | None
    account: str | None


class Query(msgspec.Struct, frozen=True):
    """One page of the conversations that fit."""

    by: ById | ByAddress
    #: The cursor that the page before gave; empty: the first page.
    after: str
    limit: int


class Directory(msgspec.Struct, frozen=True):
    """Who there is to be named."""

    #: The configured accounts, each with its provider; names are unique, so one alone is enough.
    accounts: Mapping[str, str]
    providers: frozenset[str]

    def provider_of(self, account: str, provider: str | None) -> str:
        """The provider of an account; UnknownAccount if there is none of that name, or it is another provider's."""
        found = self.accounts.get(account)
        if found is None or provider not in {None, found}:
            where = "" if provider is None else " at this provider"
            raise UnknownAccount(f"no such account{where}: see [accounts.*]")
        return found


def read_query(given: Iterable[tuple[str, str]], directory: Directory) -> Query:
    """What the parameters of a look-up ask for; CallbackError says which one cannot be used.

    Args:
        given: names and values, repeats kept; an empty value counts as not given.
        directory: the accounts and providers that may be named.
    """
    values = _once(given)
    provider, account = _where(values, directory)
    after, limit = values.get("after", ""), _limit(values.get("limit"))
    if ("id" in values) == ("address" in values):
        raise CallbackError("give one of id and address")
    if "address" in values:
        address = read_address(values["address"], provider, directory)
        return Query(ByAddress(address, provider, account), after, limit)
    if provider is None or account is None:
        raise CallbackError("account: an id means something only within an account; name it")
    return Query(ById(provider, account, values["id"]), after, limit)


def _once(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in given:
        # Not the name that was given: it is anybody's text.
        if name not in _PARAMETERS:
            raise CallbackError(f"there is a parameter that is none of {', '.join(_PARAMETERS)}")
        if value and values.setdefault(name, value) != value:
            raise CallbackError(f"{name}: stands twice, with different values")
    return values


def _where(values: Mapping[str, str], directory: Directory) -> tuple[str | None, str | None]:
    provider, account = values.get("provider"), values.get("account")
    if provider is not None and provider not in directory.providers:
        raise CallbackError(f"provider: there is no such one; there are {', '.join(sorted(directory.providers))}")
    return (provider if account is None else directory.provider_of(account, provider)), account


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise CallbackError(f"limit: a whole number from 1 to {MAX_LIMIT}")
    return limit


def read_address(text: str, provider: str | None, directory: Directory) -> Address:
    """The canonical address in a text, which may be canonical already; UnreadableAddress, without it, otherwise.

    Args:
        text: as a person or a URL has it. A URL's `+` that was not encoded arrives as a space, and is a `+` again here.
        provider: whose address it is; None: it must be a phone number, an e-mail, or name its provider itself.
        directory: the providers that an address may name itself.
    """
    spelled = "+" + text.lstrip() if text.startswith(" ") else text
    prefix, colon, rest = spelled.partition(":")
    if colon and prefix in directory.providers:
        return _canonical(prefix, rest, provider)
    try:
        found = parse_address(spelled, provider or "")
    except AddressError as error:
        raise UnreadableAddress(f"that cannot be one: {error}") from None
    if found is None:
        raise UnreadableAddress("there is nothing in it")
    if found.startswith(":"):
        raise UnreadableAddress("it is neither a phone number nor an e-mail, so it needs its provider's name as well")
    return found


def _canonical(prefix: str, rest: str, provider: str | None) -> Address:
    """`<provider>:<text>`, as our own events and tables show it."""
    if provider not in {None, prefix}:
        raise UnreadableAddress(f"it is an address at {prefix}, not at {provider}")
    if not rest or len(rest) > MAX_LENGTH or not rest.isprintable():
        raise UnreadableAddress(f"nothing that can be an address follows {prefix}:")
    return Address(f"{prefix}:{rest}")
