"""What a Redis URL says: one server, the sentinels that know the master, or the nodes of a cluster. Pure.

    redis://[user:password@]host[:6379][/db]      rediss://… with TLS      unix://[user:password@]/path/to/redis.sock
    redis+sentinel://[user:password@]host[:26379],…/master[/db]            rediss+sentinel://… with TLS
    redis+cluster://[user:password@]host[:6379],…                          rediss+cluster://… with TLS

Options follow as `?name=value`: those of redis-py (`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` and the like), and
`sentinel_username` and `sentinel_password` where sentinels want credentials too.
"""

from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from redis.asyncio.connection import parse_url

Kind = Literal["server", "sentinel", "cluster"]
Host = tuple[str, int]

_PORTS: Final[dict[Kind, int]] = {"sentinel": 26379, "cluster": 6379}
_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("redis", "rediss", "unix"), "server"),
    **dict.fromkeys(("redis+sentinel", "rediss+sentinel"), "sentinel"),
    **dict.fromkeys(("redis+cluster", "rediss+cluster"), "cluster"),
}
#: Every scheme, as a person writes it.
SUPPORTED: Final = tuple(f"{scheme}://" for scheme in _KINDS)


class RedisUrl(msgspec.Struct, frozen=True):
    """Where Redis is."""

    kind: Kind
    #: Whom to ask for the server: sentinels, or nodes of a cluster. None of them where the server itself is named.
    hosts: tuple[Host, ...]
    #: What the sentinels call the master.
    service: str
    tls: bool
    #: For each connection to a server, as redis-py takes them.
    options: dict[str, Any]
    #: For each connection to a sentinel, the same.
    sentinel_options: dict[str, Any]


def read_url(url: str) -> RedisUrl:
    """Read a URL. Raises ValueError, saying why, for one that cannot be used; nothing of it is in the error."""
    scheme, separator, _ = url.partition("://")
    kind = _KINDS.get(scheme)
    if kind is None or not separator:
        raise ValueError(f"is no URL with {', '.join(SUPPORTED)}")
    tls = scheme.startswith("rediss")
    if kind == "server":
        return RedisUrl(kind, (), "", tls, _options(url), {})
    split = urlsplit(url)
    service, db = _path(kind, split.path)
    # As the URL of one server, so that redis-py reads credentials and options as it always does.
    options = _options(f"redis://{''.join(split.netloc.rpartition('@')[:2])}localhost/{db}?{split.query}")
    sentinel_options = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    for name in ("host", "port"):
        options.pop(name, None)
    return RedisUrl(kind, _hosts(split, _PORTS[kind]), service, tls, options, sentinel_options)


def _options(url: str) -> dict[str, Any]:
    try:
        return dict(parse_url(url))
    except ValueError as error:
        # Its words may quote the URL, and that may hold a password; an option's name is all that is let through.
        name = str(error).partition("'")[2].partition("'")[0]
        raise ValueError(f"has an option {name} that cannot be read" if name.isidentifier() else "is no URL") from None


def _path(kind: Kind, path: str) -> tuple[str, str]:
    """The master's name and the number of the database."""
    service, _, db = path.strip("/").partition("/")
    if kind == "cluster":
        if service not in ("", "0"):
            raise ValueError("names a database, and a cluster has one only; leave the path away")
        return "", ""
    if not service:
        raise ValueError("lacks the sentinels' name for the master, as in redis+sentinel://host:26379/mymaster")
    if db and not db.isdecimal():
        raise ValueError("has something after the master's name that is no number of a database")
    return service, db


def _hosts(split: SplitResult, port: int) -> tuple[Host, ...]:
    hosts = split.netloc.rpartition("@")[2]
    try:
        return tuple(_host(item, port) for item in hosts.split(","))
    except ValueError:
        raise ValueError("has servers that cannot be read; write host:port, several with commas between them") from None


def _host(text: str, port: int) -> Host:
    split = urlsplit(f"//{text}")
    if not split.hostname or split.port == 0:
        raise ValueError
    return split.hostname, split.port or port
