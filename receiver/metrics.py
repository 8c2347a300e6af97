"""Every metric, in one place. Labels come from the configured accounts and closed sets of our own words only.

The processes of one service write to files in a directory that the supervisor names in PROMETHEUS_MULTIPROC_DIR, and
whichever worker is asked for /metrics adds them up.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, registry

_ACCOUNT = ["provider", "account"]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
_CAPTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

CALLBACKS = Counter("partyline_callbacks", "Requests to webhook routes by what became of them.", [*_ACCOUNT, "outcome"])
CREDENTIALS = Counter(
    "partyline_credential_matches",
    "Authentic callbacks by the setting that matched; at rotation, shows when the old one is unused.",
    [*_ACCOUNT, "credential"],
)
ANSWER_SECONDS = Histogram(
    "partyline_answer_seconds",
    "From the first byte of a callback to its answer.",
    ["provider"],
    buckets=_SECONDS,
)
CAPTURE_SECONDS = Histogram(
    "partyline_capture_seconds",
    "How long storing took, in Redis or in the spool: of the longest of each write.",
    buckets=_SECONDS,
)
FLUSHED = Histogram("partyline_flush_captures", "Captures written by one call to Redis.", buckets=_CAPTURES)
BATCH = Histogram("partyline_batch_captures", "Captures that the pipeline committed at once.", buckets=_CAPTURES)
PUBLISH_SECONDS = Histogram(
    "partyline_publish_seconds",
    "From the receipt of a callback to its events: of the oldest of each batch.",
    buckets=(*_SECONDS, 15, 60, 600, 3600),
)
EVENTS = Counter("partyline_events", "Events published.", [*_ACCOUNT, "type"])
PROVISIONAL = Counter(
    "partyline_provisional_conversations",
    "Conversations begun by a message of which it is not known yet who takes part; most are merged later.",
    _ACCOUNT,
)
DUPLICATES = Counter("partyline_duplicates", "Facts that were published before.", _ACCOUNT)
DEAD_LETTERS = Counter("partyline_dead_letters", "Elements that could not be read.", [*_ACCOUNT, "reason"])
LAG_SECONDS = Gauge(
    "partyline_lag_seconds",
    "Age of the last capture committed, at its commit.",
    ["partition"],
    multiprocess_mode="mostrecent",
)
LEASE_HELD = Gauge(
    "partyline_lease_held",
    "Whether this service's pipeline holds the lease of a partition.",
    ["partition"],
    multiprocess_mode="livesum",
)

SPOOLED = Counter("partyline_spooled", "Captures that went to the spool, since Redis did not take them.")
DRAINED = Counter(
    "partyline_spool_drained", "Captures that left the spool; `recognised`: the log had them already.", ["how"]
)
#: Asked of the spool by whichever process is scraped, so the latest answer is everybody's.
SPOOL_ROWS = Gauge("partyline_spool_captures", "Captures that wait in the spool.", multiprocess_mode="mostrecent")
SPOOL_BYTES = Gauge("partyline_spool_bytes", "Bytes that wait in the spool.", multiprocess_mode="mostrecent")
SPOOL_AGE_SECONDS = Gauge(
    "partyline_spool_oldest_seconds", "For how long the oldest one has waited.", multiprocess_mode="mostrecent"
)
SPOOL_USABLE = Gauge("partyline_spool_usable", "Whether the spool takes captures.", multiprocess_mode="mostrecent")
SPOOL_MAX_BYTES = Gauge("partyline_spool_max_bytes", "What the spool may hold.", multiprocess_mode="mostrecent")
#: Health, as /readyz tells it; also asked for with each scrape.
READY = Gauge(
    "partyline_ready", "Whether a callback can be stored, in Redis or in the spool.", multiprocess_mode="mostrecent"
)
REDIS_USABLE = Gauge("partyline_redis_usable", "Whether Redis takes writes.", multiprocess_mode="mostrecent")
REPLICAS = Gauge(
    "partyline_redis_replicas",
    "Replicas that are connected to a partition's server; NaN: it does not tell.",
    ["partition"],
    multiprocess_mode="mostrecent",
)
REPLICAS_WANTED = Gauge("partyline_redis_replicas_wanted", "redis.wait_replicas.", multiprocess_mode="mostrecent")
BREAKER_OPEN = Gauge(
    "partyline_breaker_open", "Processes whose last write Redis did not take in time.", multiprocess_mode="livesum"
)


class Children(dict[str, Counter]):
    """The children of a counter for one account, by the last label; looking one up anew costs as much as counting."""

    def __init__(self, counter: Counter, *labels: str) -> None:
        super().__init__()
        self._counter = counter
        self._labels = labels

    def __missing__(self, label: str) -> Counter:
        """The child of a label that is met for the first time."""
        child = self[label] = self._counter.labels(*self._labels, label)
        return child


def render() -> bytes:
    """The text that Prometheus reads."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(registry.REGISTRY)
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected)  # type: ignore[no-untyped-call]
    return generate_latest(collected)
