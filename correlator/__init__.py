"""The engine: evidence to conversation, one atomic commit, events on streams. Knows no HTTP and no provider."""
