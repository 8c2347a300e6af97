"""What `partyline doctor` looks at: facts gathered from configuration, host, Redis and URL, and what to think of them.

Whatever judges is pure, and takes facts as values: `configuration`, `files`, `server`, `rights`, `forecast`, `working`,
`spooling`, `clocks`, `proxy`. Whatever gathers decides nothing: `looking` (this host), `asking` (Redis), `calling` (the
URL). Nothing is changed anywhere.
"""
