"""What this version does not do yet, of what the contract lets a configuration say. Pure.

One that would change a promise is refused, by `partyline check` as well as at start-up.
"""

from receiver.settings.values import Settings
from schemas.errors import ConfigError

_SCHEMES = ("redis://", "rediss://", "unix://")


def refuse_unsupported(settings: Settings) -> None:
    """Raise ConfigError with every setting that this version cannot keep."""
    mistakes = []
    redis = settings.redis
    if redis.url != "embedded" and not redis.url.startswith(_SCHEMES):
        scheme = redis.url.partition("://")[0]
        mistakes.append(f"redis.url: {scheme}:// is not supported by this version; use redis://")
    if redis.partitions != 1:
        mistakes.append("redis.partitions: this version works with one partition; leave it out")
    if redis.wait_replicas:
        mistakes.append("redis.wait_replicas: this version does not wait for replicas; leave it out")
    if mistakes:
        raise ConfigError(mistakes)
