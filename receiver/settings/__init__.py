"""The configuration: read in one pass, with all mistakes at once, into frozen values.

`load` reads a file, `parse` a document already at hand; `explain` says in plain words what a configuration does.
"""

from receiver.settings.explaining import Row, explain
from receiver.settings.loading import load, parse
from receiver.settings.values import Account, Correlation, Network, Redis, Retention, Server, Settings, Spool

__all__ = [
    "Account",
    "Correlation",
    "Network",
    "Redis",
    "Retention",
    "Row",
    "Server",
    "Settings",
    "Spool",
    "explain",
    "load",
    "parse",
]
