"""Clocks that differ: this host's, Redis', and the providers', as the newest callbacks tell. Pure."""

from collections.abc import Iterator, Sequence

from receiver.doctor.findings import Finding, lasting

TOPIC = "clock"

#: A signature's tolerance is minutes; lags, ages and orders are shown wrong long before.
_NOTABLE_SECONDS, _HARMFUL_SECONDS = 2.0, 30.0
#: One callback may be anything; of several, the quickest is on its way for a second or two.
_FEWEST, _QUICK_SECONDS = 5, 60.0


def judge_redis(where: str, skew_seconds: float, margin_seconds: float) -> Finding:
    """What there is to say about Redis' clock.

    Args:
        where: which server.
        skew_seconds: by how much it is ahead of this host's.
        margin_seconds: how wrong that may be, as the question took time.
    """
    off = max(0.0, abs(skew_seconds) - margin_seconds)
    ahead = "ahead of" if skew_seconds > 0 else "behind"
    apart = f"Redis' clock is {abs(skew_seconds):.1f} s {ahead} this host's"
    if off > _HARMFUL_SECONDS:
        return Finding("warning", TOPIC, where, f"{apart}: retention and lags are off by that", "run NTP on both")
    if off > _NOTABLE_SECONDS:
        return Finding("note", TOPIC, where, apart, "run NTP on both")
    return Finding("ok", TOPIC, where, "Redis' clock and this host's agree")


def judge_providers(delays: Sequence[float]) -> Iterator[Finding]:
    """What the newest callbacks tell of the receivers' clock.

    `delays`: for each, by how many seconds its receipt is later than the provider's time of the fact.
    """
    if len(delays) < _FEWEST:
        return
    quickest = min(delays)
    of = f"of the newest {len(delays)} facts"
    if quickest < -_HARMFUL_SECONDS:
        early = f"One {of} was received {lasting(-quickest)} before it happened: a receiver's clock is behind"
        todo = "run NTP on the receivers: signatures are refused for their age, and times are wrong"
        yield Finding("warning", TOPIC, "providers", early, todo)
    elif quickest > _QUICK_SECONDS:
        late = f"None {of} was received within {lasting(quickest)}: a receiver's clock is ahead, or all of them waited"
        yield Finding("note", TOPIC, "providers", late, "run NTP on the receivers; was the URL away meanwhile?")
    else:
        yield Finding("ok", TOPIC, "providers", f"The times {of} agree with the receivers' clocks")
