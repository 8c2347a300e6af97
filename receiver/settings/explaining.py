"""What a configuration does, in plain words and row by row: for `partyline check`. Pure.

No row holds a secret, a password in a URL, or a full number.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from receiver.settings.formats import written_duration, written_size
from receiver.settings.values import Account, Redis, Retention, Secret, Server, Settings
from schemas.address import mask

#: `ok` states a fact, `note` something that is easily overlooked, `warning` something that can hurt.
Level = Literal["ok", "note", "warning"]

_MIN_KEY_BYTES = 16
_SHOWN_LINES = 5
_DURABILITY: dict[str, tuple[Level, str]] = {
    "always": ("ok", "A callback is answered 200 once Redis has it on disk"),
    "everysec": ("warning", "Redis writes to disk every second: a crash can lose a second of answered callbacks"),
    "none": ("warning", "Redis need not write to disk: a crash can lose callbacks that were answered 200"),
}
_UNAUTHENTIC = {
    "reject": "A request that fails its check is answered 401 and not kept",
    "defer": "A request that fails its check is answered 503, so that the provider tries again; it is not kept",
    "quarantine": "A request that fails its check is answered 200 and kept aside, unread, in the quarantine",
}


class Row(NamedTuple):
    """One thing that a configuration does."""

    level: Level
    #: The key to look at, as in `accounts.main-telnyx.public_keys`.
    path: str
    sentence: str


def explain(settings: Settings) -> list[Row]:
    """What these settings do, in the order of the file."""
    return [
        Row("ok", "namespace", f"Every Redis key and channel starts with partyline:{{{settings.namespace}}}:"),
        _id_key(settings.id_key),
        *_server(settings.server),
        *_redis(settings.redis),
        *_spool(settings),
        *_retention(settings.retention, settings.correlation.copy_window_seconds),
        *_accounts(settings),
    ]


def _id_key(id_key: bytes) -> Row:
    if not id_key:
        return Row(
            "warning",
            "id_key",
            "There is none: conversation keys can be guessed from phone numbers, so treat them as personal data; "
            "it cannot be added later within this namespace",
        )
    if len(id_key) < _MIN_KEY_BYTES:
        short = (
            f"It has fewer than {_MIN_KEY_BYTES} characters and can be guessed; begin the namespace with a longer one"
        )
        return Row("warning", "id_key", short)
    return Row("ok", "id_key", "Conversation keys cannot be guessed; keep it for the life of the namespace")


def _server(server: Server) -> Iterator[Row]:
    where = _http(server.host, server.port)
    processes = "1 process" if server.workers == 1 else f"{server.workers} processes"
    yield Row("ok", "server.port", f"Callbacks arrive at {where}, served by {processes}")
    if server.admin_port is None:
        yield Row("note", "server.admin_port", "Metrics share the port of the callbacks")
    else:
        admin = _http(server.host, server.admin_port)
        yield Row(
            "ok", "server.admin_port", f"Metrics are at {admin}/metrics, and no longer on the port of the callbacks"
        )
    yield _api(server)
    yield _replays(server)
    body, in_flight = written_size(server.max_body_bytes), written_size(server.max_in_flight_bytes)
    patience = written_duration(server.body_timeout_seconds)
    limits = f"A body may have {body} and take {patience}; beyond {in_flight} at once, requests are answered 503"
    yield Row("ok", "server.max_body", limits)
    proxies = ", ".join(str(network) for network in server.trusted_proxies) or "nobody"
    yield Row("ok", "server.trusted_proxies", f"X-Forwarded-* headers count from {proxies}")


def _api(server: Server) -> Row:
    if not server.api_tokens:
        off = "There is none, so /v1 is switched off: over HTTP no send is registered, nothing looked up or linked"
        return Row("note", "server.api_tokens", off)
    live = "1 token opens" if len(server.api_tokens) == 1 else f"{len(server.api_tokens)} tokens open"
    where = _http(server.host, server.port if server.admin_port is None else server.admin_port)
    return Row("ok", "server.api_tokens", f"{live} {where}/v1: registering sends, looking up and linking conversations")


def _replays(server: Server) -> Row:
    if not server.replay_tokens:
        return Row("ok", "server.replay_tokens", "There is none: no other receiver can post its captures to this one")
    live = "1 token lets" if len(server.replay_tokens) == 1 else f"{len(server.replay_tokens)} tokens let"
    believed = (
        f"{live} another receiver post its captures to every account here, and its word on when each "
        "was received and what proved it is believed; remove it when that is done"
    )
    return Row("note", "server.replay_tokens", believed)


def _http(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port or '(any free port)'}"


def _redis(redis: Redis) -> Iterator[Row]:
    partitions = "1 partition" if redis.partitions == 1 else f"{redis.partitions} partitions"
    yield Row("ok", "redis.url", f"Everything is in {_redis_place(redis)}, in {partitions}")
    level, promise = _DURABILITY[redis.durability]
    replicas = f", and {redis.wait_replicas} replica(s) have it" if redis.wait_replicas else ""
    yield Row(level, "redis.durability", promise + replicas)
    deadline = written_duration(redis.write_deadline_seconds)
    away = f"What Redis does not take within {deadline} goes to the spool, as does all that follows until it answers"
    yield Row("ok", "redis.write_deadline", away)


def _spool(settings: Settings) -> Iterator[Row]:
    yield Row("ok", "spool.dir", f"While Redis is away, callbacks are kept on disk in {settings.spool.dir}")
    most, oldest = written_size(settings.spool.max_bytes), written_duration(settings.retention.captures_seconds)
    beyond = f"{most} fit, and none once the oldest has waited {oldest}; then callbacks are answered 503"
    yield Row("ok", "spool.max", beyond)


def _redis_place(redis: Redis) -> str:
    """The server without user, password and query: `redis_url` makes sure that an @ stands only before the host."""
    if redis.url == "embedded":
        return f"an embedded Redis with its files in {redis.data_dir}"
    scheme, _, rest = redis.url.partition("://")
    return f"Redis at {scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _retention(retention: Retention, copy_window_seconds: float) -> Iterator[Row]:
    kept = (
        ("captures", retention.captures_seconds, retention.captures_max_bytes, "Captures, for replaying"),
        ("events", retention.events_seconds, retention.events_max_bytes, "Events, for subscribers to resume"),
    )
    for key, seconds, most, what in kept:
        bounds = f"{written_duration(seconds)}, {written_size(most)} at most"
        yield Row("ok", f"retention.{key}", f"{what}, are kept for {bounds}")
    messages = written_duration(retention.messages_seconds)
    yield Row("ok", "retention.messages", f"Reports find the conversation of their message for {messages}")
    dedupe = written_duration(retention.dedupe_seconds)
    yield Row("ok", "retention.dedupe", f"A fact that comes again within {dedupe} is published once")
    if not copy_window_seconds:
        yield Row("note", "correlation.copy_window", "Copies of one message are not marked")


def _accounts(settings: Settings) -> Iterator[Row]:
    if not settings.accounts:
        yield Row("warning", "accounts", "There are none: no callback can arrive; add [accounts.<name>]")
    for account in settings.accounts.values():
        path = f"accounts.{account.name}"
        yield Row("ok", path, f"{account.provider} posts to {' and '.join(_urls(account))}")
        yield from _credentials(account, path)
        yield from _sources(account, path, settings.server)
        yield from _lines(account, path)
        advise = _ADVICE.get(account.provider)
        if advise is not None:
            yield from advise(account, path)


def _urls(account: Account) -> Iterator[str]:
    url = f"/webhooks/{account.provider}/{account.name}"
    if account.unsafe_no_auth or set(account.credentials) - {"url_tokens", "verify_tokens"}:
        yield url
    for _ in account.credentials.get("url_tokens", ()):
        yield f"{url}/…"


def _credentials(account: Account, path: str) -> Iterator[Row]:
    for setting, values in account.credentials.items():
        yield _live(f"{path}.{setting}", values)
    if account.unsafe_no_auth:
        danger = "ANYBODY WHO REACHES THE URL IS BELIEVED: nothing is checked; add a credential before real use"
        yield Row("warning", f"{path}.unsafe_no_auth", danger)
    else:
        yield Row("ok", f"{path}.on_unauthentic", _UNAUTHENTIC[account.on_unauthentic])


def _live(path: str, values: tuple[Secret, ...]) -> Row:
    if len(values) == 1:
        return Row("ok", path, "1 is live")
    return Row("note", path, f"{len(values)} are live (rotation); remove the old ones when they are out of use")


def _sources(account: Account, path: str, server: Server) -> Iterator[Row]:
    if not account.sources:
        return
    networks = ", ".join(map(str, account.sources))
    yield Row("ok", f"{path}.sources", f"A request from anywhere but {networks} is answered 403, its body unread")
    if not server.trusted_proxies:
        peer = (
            "server.trusted_proxies is empty, so what counts is who opens the connection: "
            "behind a proxy that is always the proxy"
        )
        yield Row("note", f"{path}.sources", peer)


def _lines(account: Account, path: str) -> Iterator[Row]:
    if account.lines:
        shown = ", ".join(mask(line) for line in account.lines[:_SHOWN_LINES])
        more = f" and {len(account.lines) - _SHOWN_LINES} more" if len(account.lines) > _SHOWN_LINES else ""
        yield Row("ok", f"{path}.lines", f"Shown as lines, apart from the participants: {shown}{more}")
    else:
        alone = "There are none: an own number that a callback does not show to be ours counts as a participant"
        yield Row("note", f"{path}.lines", alone)


# --- what is particular to one provider ---


def _telnyx(account: Account, path: str) -> Iterator[Row]:
    if account.strict_groups:
        strict = "An MMS report without cc and group_message_id stays provisional"
        yield Row("note", f"{path}.strict_groups", strict)


def _sendblue(account: Account, path: str) -> Iterator[Row]:
    if not account.unsafe_no_auth and "url_tokens" not in account.credentials:
        unsigned = "There are none: status callbacks of single messages come without the secret and will be refused"
        yield Row("note", f"{path}.url_tokens", unsigned)


def _sinch(account: Account, path: str) -> Iterator[Row]:
    if account.default_line is None:
        none = "There is none: reports of sends that were never registered stay provisional"
        yield Row("note", f"{path}.default_line", none)
    else:
        shown = mask(account.default_line)
        yield Row("ok", f"{path}.default_line", f"Reports that name no line, of no registered send, belong to {shown}")
    if account.on_unauthentic == "reject" and not account.unsafe_no_auth:
        lost = (
            "Sinch never retries a 4xx: while a secret is wrong here, every callback is lost for good; "
            'consider "defer" or "quarantine"'
        )
        yield Row("warning", f"{path}.on_unauthentic", lost)
    if account.sources:
        missing = "Sinch never retries a 4xx: what comes from a network of theirs that is missing here is lost for good"
        yield Row("warning", f"{path}.sources", missing)


def _whatsapp(account: Account, path: str) -> Iterator[Row]:
    if "verify_tokens" not in account.credentials:
        closed = "There are none: the handshake is always answered 403, so Meta will not accept the URL"
        yield Row("note", f"{path}.verify_tokens", closed)


_ADVICE = {"telnyx": _telnyx, "sendblue": _sendblue, "sinch": _sinch, "whatsapp": _whatsapp}
