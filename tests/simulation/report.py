"""What a run says at its end."""

from collections.abc import Iterator, Mapping

from tests.simulation.run import Result, Settings


def report(settings: Settings, result: Result) -> Iterator[str]:
    """The lines of it."""
    verdict = result.verdict
    total = result.callbacks.total()
    off = [name for name in ("registrations", "user_ids") if not getattr(settings, name)]
    yield f"seed {settings.seed}" + (f", without {' and '.join(off)}" if off else "")
    yield f"{total:,} callbacks in {result.seconds:.1f} s ({total / max(result.seconds, 1e-9):,.0f} a second)"
    for provider in sorted(result.callbacks):
        yield (
            f"  {provider:10} {result.callbacks[provider]:>9,} callbacks {result.events[provider]:>9,} events"
            f" {result.duplicates[provider]:>8,} duplicates"
        )
    yield f"{verdict.facts:,} facts judged, {verdict.determined:,} of them determined by the evidence"
    yield f"{verdict.conversations:,} true conversations, {verdict.survivors:,} surviving keys"
    if verdict.beyond_evidence:
        yield f"  {verdict.beyond_evidence:,} of them are several by all the evidence: no callback ties their people"
    yield f"wrong merges: {verdict.wrong_merges}"
    yield f"splits: {verdict.splits}"
    yield f"determined, yet provisional: {verdict.left_open}"
    yield f"undetermined, and astray: {verdict.astray}"
    yield f"unaccounted for: {verdict.unaccounted}" + _reasons(result)
    yield from _open("left provisional", verdict.provisional)
    yield from _open("undetermined, yet where they belong", verdict.found_anyway)
    yield from verdict.offenders


def _reasons(result: Result) -> str:
    told = [f"{count} {reason}" for reason, count in result.unaccounted.items() if count]
    return f" ({', '.join(told)})" if told else ""


def _open(title: str, counts: Mapping[tuple[str, str], int]) -> Iterator[str]:
    yield f"{title}: {sum(counts.values()):,}"
    for (account, reason), count in sorted(counts.items()):
        yield f"  {count:>9,}  {account}: {reason}"
