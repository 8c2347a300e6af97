"""What stands in the configuration: what `partyline check` notes, and secrets that are none. Pure."""

import math
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from receiver.doctor.findings import Finding, Level
from receiver.settings import Settings, explain

TOPIC = "configuration"

#: Words that stand in examples and templates, in the place of a secret.
_PLACEHOLDER = re.compile(
    r"change-?_?me|replace-?_?(this|me)|your[-_ ]|placeholder|insert[-_ ]|<[^>]*>|\{\{|\$\{"
    r"|(?<![a-z0-9])(example|dummy|todo|fixme)(?![a-z0-9])"
    r"|^(?P<one>.)(?P=one)*$|^(secret|password|token|test|none|null|undefined)$",
    re.IGNORECASE,
)
#: Fewer can be tried by somebody who is patient and has one signed request to try on.
_FEWEST_BITS = 64
_ALPHABETS = ((r"[0-9]", 10), (r"[a-f]", 6), (r"[g-z]", 20), (r"[A-F]", 6), (r"[G-Z]", 20), (r"[^0-9A-Za-z]", 10))


def judge(settings: Settings) -> Iterator[Finding]:
    """All that is to be said without looking anywhere else."""
    yield Finding("ok", TOPIC, "partyline.toml", f"No mistakes; {len(settings.accounts)} account(s)")
    for row in explain(settings):
        if row.level != "ok":
            yield Finding(row.level, TOPIC, row.path, row.sentence)
    found = list(secrets(settings))
    for path, secret in found:
        yield from judge_secret(path, secret)
    yield from _shared(found)


def mistakes(found: list[str]) -> Iterator[Finding]:
    """A configuration that cannot be used: `partyline serve` ends with status 78."""
    for mistake in found:
        yield Finding("mistake", TOPIC, mistake.partition(":")[0], mistake.partition(":")[2].strip() or mistake)


def secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each secret of a configuration, by its key path; of user and password, the password. Public keys are none."""
    if settings.id_key:
        yield "id_key", settings.id_key.decode()
    for name, tokens in (("api_tokens", settings.server.api_tokens), ("replay_tokens", settings.server.replay_tokens)):
        yield from ((f"server.{name}[{index}]", str(token)) for index, token in enumerate(tokens))
    if settings.redis.url != "embedded" and (password := urlsplit(settings.redis.url).password):
        yield "redis.url", unquote(password)
    for account in settings.accounts.values():
        for setting, values in account.credentials.items():
            for index, value in enumerate(values):
                if setting != "public_keys":
                    secret = value.partition(":")[2] if setting == "basic_auth" else str(value)
                    yield f"accounts.{account.name}.{setting}[{index}]", secret


def judge_secret(path: str, secret: str) -> Iterator[Finding]:
    """What is wrong with a secret's shape; nothing of it is shown."""
    if _PLACEHOLDER.search(secret):
        todo = "put the real one there: the provider's, or a random one (`partyline keys`)"
        yield Finding("mistake", TOPIC, path, "It looks like the placeholder of an example: anybody can guess it", todo)
        return
    if secret != secret.strip():
        todo = "remove it, unless the provider has it as well (a file may end in one newline, which does not count)"
        yield Finding("warning", TOPIC, path, "It begins or ends in white space, which nobody sees", todo)
    if (bits := strength(secret)) < _FEWEST_BITS:
        # Whoever guesses a verify token can have us answer a handshake, and nothing else.
        level: Level = "note" if ".verify_tokens" in path else "warning"
        weak = f"It can be guessed: at most {bits:.0f} bits, where {_FEWEST_BITS} are the least"
        todo = "take a longer, random one (`partyline keys` makes some), and tell the provider"
        if path == "id_key":
            todo = "begin another namespace with a longer one: it is fixed for the life of this one"
        yield Finding(level, TOPIC, path, weak, todo)


def strength(secret: str) -> float:
    """How many bits a secret has at most: as if each character were drawn from the kinds that stand in it."""
    size = sum(count for kind, count in _ALPHABETS if re.search(kind, secret))
    distinct = len(set(secret))
    return len(secret) * math.log2(min(size, distinct * 4)) if distinct > 1 else 0.0


def _shared(found: list[tuple[str, str]]) -> Iterator[Finding]:
    """Secrets that stand in several places: whoever learns one has the others."""
    places: dict[str, list[str]] = {}
    for path, secret in found:
        places.setdefault(secret, []).append(path)
    for paths in places.values():
        if len(paths) > 1:
            shared = f"The same secret stands at {', '.join(paths[1:])} as well: who learns one has all"
            yield Finding("warning", TOPIC, paths[0], shared, "give each its own")
