"""What this version does not do yet, of what the contract lets a configuration say. Pure.

One that would change a promise is refused, by `partyline check` as well as at start-up.
"""

from receiver.settings.values import Settings
from schemas.errors import ConfigError


def refuse_unsupported(settings: Settings) -> None:
    """Raise ConfigError with every setting that this version cannot keep."""
    mistakes = []
    redis = settings.redis
    if redis.partitions != 1:
        mistakes.append("redis.partitions: this version works with one partition; leave it out")
    if mistakes:
        raise ConfigError(mistakes)
