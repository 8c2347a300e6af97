"""Whether a request comes from a network that an account takes callbacks from. Pure.

It is a second wall, for whoever knows the provider's networks: it proves nothing, and what passes has to prove itself.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from receiver.settings import Account, Network
from schemas.errors import CallbackError

#: The peer as ASGI has it: address and port, None for a socket without either.
Peer = tuple[str, int] | None


class SourceRefused(CallbackError):
    """The request comes from none of the account's `sources`."""

    reason = "source_refused"
    status = 403


def check_source(peer: Peer, account: Account) -> None:
    """Raise SourceRefused if the account has `sources` and the peer is in none of them.

    Args:
        peer: who sent it: the other end of the connection, or whom `server.trusted_proxies` say they speak for.
        account: the one that the URL names.
    """
    if account.sources and not _is_within(peer, account.sources):
        raise SourceRefused(
            f"the request comes from none of the networks in accounts.{account.name}.sources; "
            "where a proxy passes it on, server.trusted_proxies must list that proxy"
        )


def _is_within(peer: Peer, networks: Collection[Network]) -> bool:
    addresses = _addresses(peer[0]) if peer else ()
    return any(address in network for network in networks for address in addresses)


def _addresses(host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """An address in every form that a network may be written in; nothing for what a proxy says that is no address."""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address,) if mapped is None else (address, mapped)
