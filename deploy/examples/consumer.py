"""Keeps every conversation in a SQLite database, and shows what each subscriber owes: once for each event, in order.

    PARTYLINE_NAMESPACE=prod .venv/bin/python deploy/examples/consumer.py

An event comes again after a crash. So its id goes into the database in the transaction that handles it, and what is
there already is passed over: however often an event comes, it is handled once. SIGTERM and Ctrl-C end it in order.
"""

import asyncio
import os
import signal
import sqlite3

from correlator.subscribe import Published, Retry, Subscription
from schemas.events import ConversationMerged, MessageOutbound, MessageReceived, MessageStatus

REDIS = os.environ.get("PARTYLINE_REDIS__URL", "redis://localhost:6379")
NAMESPACE = os.environ.get("PARTYLINE_NAMESPACE", "default")
GROUP = os.environ.get("PARTYLINE_GROUP", "inbox")
DATABASE = os.environ.get("INBOX_DATABASE", "inbox.sqlite3")

TABLES = """
-- What was handled. May be emptied of what is older than the stream keeps (retention.events).
CREATE TABLE IF NOT EXISTS handled (event TEXT PRIMARY KEY, at TEXT NOT NULL);
-- Under the key that an event was published under; what that key means today, `survivors` says.
CREATE TABLE IF NOT EXISTS messages (
    event TEXT PRIMARY KEY, conversation TEXT NOT NULL, time TEXT NOT NULL, sender TEXT, text TEXT, message TEXT);
CREATE TABLE IF NOT EXISTS reports (
    event TEXT PRIMARY KEY, message TEXT, recipient TEXT, status TEXT NOT NULL, settled INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS survivors (key TEXT PRIMARY KEY, survivor TEXT NOT NULL);
-- What to show: every message with the conversation that it belongs to now, sorted by the provider's time.
CREATE VIEW IF NOT EXISTS threads AS
    SELECT coalesce(survivor, conversation) AS thread, time, sender, text
    FROM messages LEFT JOIN survivors ON key = conversation ORDER BY thread, time;
"""


class Inbox:
    """The database. Several consumers on one machine may share it."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(TABLES)

    def handle(self, event: Published) -> bool:
        """Handle an event in one transaction; False: it was handled before, and nothing is done."""
        with self._database as transaction:  # commits at its end, and takes everything back if something fails
            if not self._is_first(transaction, event):
                return False
            self._store(transaction, event)
        return True

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _is_first(self, transaction: sqlite3.Connection, event: Published) -> bool:
        known = "INSERT OR IGNORE INTO handled VALUES (?, ?)"
        return transaction.execute(known, (event.id, event.received_at.isoformat())).rowcount == 1

    def _store(self, transaction: sqlite3.Connection, event: Published) -> None:
        # A key that events are published under stands for itself, also if it was merged once (a link was taken back).
        transaction.execute("DELETE FROM survivors WHERE key = ?", (event.subject,))
        match event.body:
            case MessageReceived(message=message) | MessageOutbound(message=message):
                row = (event.id, event.subject, event.time.isoformat(), message.sender, message.text, message.id)
                transaction.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
            case MessageStatus(message=message, status=status):
                settled = event.rollup is not None and event.rollup.settled
                report = (event.id, message.id, status.recipient, status.value, settled)
                transaction.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", report)
            case ConversationMerged(merged=keys):
                # Every key that now means the subject, earlier ones included: so one step always suffices.
                merged = [(key, event.subject) for key in keys]
                transaction.executemany("INSERT OR REPLACE INTO survivors VALUES (?, ?)", merged)
            case _:  # further types are added over time; those of no interest are handled by doing nothing
                pass


async def main() -> None:
    """Subscribe until told to stop."""
    inbox = Inbox(DATABASE)

    async def handle(event: Published) -> None:
        if inbox.handle(event):
            print(event.sequence, event.type, event.subject, event.id, flush=True)

    subscription = Subscription(REDIS, namespace=NAMESPACE, group=GROUP, start="beginning", retry=Retry(tries=5))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, subscription.stop)
    try:
        await subscription.run(handle)
    finally:
        inbox.close()


if __name__ == "__main__":
    asyncio.run(main())
