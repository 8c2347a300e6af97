"""Refuses what is older than de-duplication remembers: the same for callbacks and registered sends. Pure."""

from receiver.authentication import limits_age
from receiver.provider import Provider
from schemas.callback import Capture
from schemas.events import Event, Parsed, Unreadable


def in_time(parsed: Parsed, capture: Capture, provider: Provider) -> Parsed:
    """The element itself, or that it is too old, unless its signature limits its age by itself (rule 8)."""
    if not isinstance(parsed, Event) or parsed.occurred_at is None:
        return parsed
    age = capture.received_at - parsed.occurred_at
    # Nearly everything is young, which is sooner seen than what its signature limits.
    if age.total_seconds() <= capture.facts.dedupe_seconds or limits_age(provider, capture.assurance):
        return parsed
    return Unreadable("too_old", "$", f"{age.days} days old at receipt, beyond retention.dedupe")
