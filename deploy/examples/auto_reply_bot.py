"""Answers what people write, in groups too, and registers each answer: its reports then land in the conversation.

    PARTYLINE_API_TOKEN=… TELNYX_API_KEY=… .venv/bin/python deploy/examples/auto_reply_bot.py

For Telnyx and Sendblue; `PROVIDERS` is the place for another. No message is answered twice, whatever crashes: that an
answer begins is written down before it is sent. Neither provider promises for these calls that a repeated one sends
nothing, so the other side of that remains: after a crash, a time-out or a 5xx in the middle of a send nobody knows
whether it went out, and it is not sent again. Rather no answer than two.
"""

import asyncio
import hashlib
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import orjson

from correlator.subscribe import Published, Retry, Subscription
from receiver.client import Client, Refused
from schemas.events import ConversationMerged, Message, MessageReceived

TEXT = os.environ.get("BOT_TEXT", "Thanks! We are out on the water and answer tomorrow.")
DATABASE = os.environ.get("BOT_DATABASE", "bot.sqlite3")
#: Older messages are left alone: after a long outage, an answer would come out of the blue.
MAX_AGE = timedelta(minutes=10)
#: What a conversation gets at most, should another bot be in it that answers ours.
MOST_ANSWERS, WITHIN_SECONDS = 3, 3600.0
#: Telnyx sends a group message to so many at most.
MOST_RECIPIENTS = 8

log = logging.getLogger("bot")  # conversations and captures only: no text, no number


def reply_to(message: Message) -> str | None:
    """Yours: what to answer; None: nothing."""
    return None if message.opt_out else TEXT


# --- sending ----------------------------------------------------------------------------------------------


class Send(NamedTuple):
    """One request to a provider."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any]


def to_telnyx(event: Published, line: str, others: list[str], text: str) -> Send | None:
    """A group message needs everybody named, other lines of yours as well: the set of addresses is the conversation."""
    base = os.environ.get("TELNYX_API_URL", "https://api.telnyx.com/v2")
    # A second net, should the journal be lost: Telnyx promises it for other calls, so nothing relies on it here.
    key = hashlib.sha256(event.id.encode()).hexdigest()
    headers = {"authorization": f"Bearer {os.environ['TELNYX_API_KEY']}", "idempotency-key": key}
    if len(others) > MOST_RECIPIENTS or not all(address.startswith("+") for address in (line, *others)):
        return None  # short codes and the like answer by themselves
    if is_group(event):
        return Send(f"{base}/messages/group_mms", headers, {"from": line, "to": others, "text": text})
    return Send(f"{base}/messages", headers, {"from": line, "to": others[0], "text": text})


def to_sendblue(event: Published, line: str, others: list[str], text: str) -> Send | None:
    """A group is named by its id; where it has none, by its people."""
    base = os.environ.get("SENDBLUE_API_URL", "https://api.sendblue.co")
    headers = {"sb-api-key-id": os.environ["SENDBLUE_API_KEY"], "sb-api-secret-key": os.environ["SENDBLUE_API_SECRET"]}
    if not is_group(event):
        return Send(f"{base}/api/send-message", headers, {"from_number": line, "number": others[0], "content": text})
    group_id = event.provider.ids.get("group_id")
    whom = {"group_id": group_id} if group_id else {"numbers": others}
    return Send(f"{base}/api/send-group-message", headers, {"from_number": line, "content": text, **whom})


#: How to send at each provider, of those for which there are keys.
PROVIDERS: dict[str, Callable[[Published, str, list[str], str], Send | None]] = {}
if "TELNYX_API_KEY" in os.environ:
    PROVIDERS["telnyx"] = to_telnyx
if {"SENDBLUE_API_KEY", "SENDBLUE_API_SECRET"} <= os.environ.keys():
    PROVIDERS["sendblue"] = to_sendblue


def is_group(event: Published) -> bool:
    """Whether it is of a group."""
    return event.conversation is not None and event.conversation.kind == "group"


def answer_to(event: Published, message: Message, now: datetime) -> Send | None:
    """The answer to an event; None: it gets none."""
    there, text = event.conversation, reply_to(message)
    if text is None or there is None or there.provisional or not there.participants or not there.lines:
        return None  # nothing to say, or it is not certain yet who would read it
    if message.sender is None or message.sender in there.lines or message.direction != "inbound":
        return None  # ourselves
    if event.copy_of is not None or event.replayed or now - event.time > MAX_AGE:
        return None  # another line of ours was told the same and answers; or it is no news
    send = PROVIDERS.get(event.provider.name)
    line, *further_lines = there.lines
    return send and send(event, line, [*there.participants, *further_lines], text)


# --- what was answered ------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """How far the answer to an event got."""

    #: begun: sent or not, nobody knows. sent: not registered yet. registered, refused: done.
    state: str
    request: bytes
    response: bytes | None


class Journal:
    """The answers, by the event that they answer. Bots on one machine may share it.

    It holds numbers and texts. What is older than a day and registered or refused may be deleted.
    """

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)  # each statement is a transaction
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (event TEXT PRIMARY KEY, conversation TEXT NOT NULL, at REAL NOT NULL,"
            " state TEXT NOT NULL, request BLOB NOT NULL, response BLOB)"
        )

    def find(self, event: Published) -> Answer | None:
        """The answer to an event, if one was begun."""
        query = "SELECT state, request, response FROM answers WHERE event = ?"
        row = self._database.execute(query, (event.id,)).fetchone()
        return row and Answer(*row)

    def begin(self, event: Published, request: bytes) -> bool:
        """Note, before it is sent, that an answer begins; False: it did before, or the conversation has had enough."""
        begin = """INSERT OR IGNORE INTO answers SELECT ?1, ?2, ?3, 'begun', ?4, NULL
                   WHERE (SELECT count(*) FROM answers WHERE conversation = ?2 AND at > ?5) < ?6"""
        now = time.time()
        values = (event.id, event.subject, now, request, now - WITHIN_SECONDS, MOST_ANSWERS)
        return self._database.execute(begin, values).rowcount == 1

    def take_back(self, event: Published) -> None:
        """It certainly was not sent."""
        self._database.execute("DELETE FROM answers WHERE event = ?", (event.id,))

    def move(self, event: Published, state: str, response: bytes | None = None) -> None:
        """Note how far an answer got."""
        update = "UPDATE answers SET state = ?, response = coalesce(?, response) WHERE event = ?"
        self._database.execute(update, (state, response, event.id))

    def merge(self, keys: tuple[str, ...], survivor: str) -> None:
        """Count the answers in merged conversations for the one that they are now."""
        update = "UPDATE answers SET conversation = ? WHERE conversation = ?"
        self._database.executemany(update, [(survivor, key) for key in keys])

    def close(self) -> None:
        """Close the database."""
        self._database.close()


# --- the bot ----------------------------------------------------------------------------------------------


class Bot:
    """Answers events, one at a time in each conversation."""

    def __init__(self, journal: Journal, http: httpx.AsyncClient, partyline: Client) -> None:
        self._journal = journal
        self._http = http
        self._partyline = partyline

    async def handle(self, event: Published) -> None:
        """Whatever fails with an error is tried again by the library, and goes on where it was."""
        match event.body:
            case MessageReceived(message=message):
                await self._answer(event, message)
            case ConversationMerged(merged=keys):
                self._journal.merge(keys, event.subject)

    async def _answer(self, event: Published, message: Message) -> None:
        known = self._journal.find(event)
        if known is None:
            send = answer_to(event, message, datetime.now(UTC))
            if send is not None:
                await self._send(event, send)
        elif known.state == "begun":
            log.warning("%s: whether %s was answered is not known; not again", event.subject, event.capture)
        await self._register(event)

    async def _send(self, event: Published, send: Send) -> None:
        request, headers = orjson.dumps(send.body), {**send.headers, "content-type": "application/json"}
        if not self._journal.begin(event, request):
            log.warning("%s: has had %d answers in an hour; no more for now", event.subject, MOST_ANSWERS)
            return
        try:
            response = await self._http.post(send.url, headers=headers, content=request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            self._journal.take_back(event)  # nothing was sent: the next try begins anew
            raise
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.TOO_MANY_REQUESTS}:
            self._journal.take_back(event)  # raises below
        elif response.is_client_error:
            self._journal.move(event, "refused")
            log.error("%s: %s refuses the answer with %d", event.subject, event.provider.name, response.status_code)
            return
        response.raise_for_status()  # a 5xx is tried again as well, and found to be begun then
        self._journal.move(event, "sent", response.content)

    async def _register(self, event: Published) -> None:
        """Hand in what the provider answered, unchanged; doing that twice does no harm."""
        answer = self._journal.find(event)
        if answer is None or answer.state != "sent":
            return
        name, account = event.provider.name, event.provider.account
        try:
            sent = await self._partyline.register(name, account, answer.response, answer.request)
        except Refused as error:
            if error.status != httpx.codes.UNPROCESSABLE_ENTITY:
                raise  # a wrong token or URL: goes on once that is right
            log.error("%s: partyline cannot read the answer's response: %s", event.subject, error.reason)  # noqa: TRY400
            self._journal.move(event, "refused")
            return
        self._journal.move(event, "registered")
        log.info("%s: answered %s as %s", event.subject, event.capture, ", ".join(found.key for found in sent))


async def main() -> None:
    """Answer until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not PROVIDERS:
        sys.exit("No provider to send through: set TELNYX_API_KEY, or SENDBLUE_API_KEY and SENDBLUE_API_SECRET.")
    log.info("answering for %s", " and ".join(PROVIDERS))
    journal = Journal(DATABASE)
    subscription = Subscription(
        os.environ.get("PARTYLINE_REDIS__URL", "redis://localhost:6379"),
        namespace=os.environ.get("PARTYLINE_NAMESPACE", "default"),
        group="bot",
        types=["message.received", "conversation.merged"],
        # Registering waits for partyline for as long as it takes; sending gives up when the message is too old.
        retry=Retry(tries=100, first_seconds=1.0, longest_seconds=60.0),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, subscription.stop)
    partyline = Client(os.environ.get("PARTYLINE_URL", "http://localhost:8081"), os.environ["PARTYLINE_API_TOKEN"])
    # A send that is under way when told to stop is finished: `run` waits for 15 s.
    async with httpx.AsyncClient(timeout=10) as http, partyline:
        await subscription.run(Bot(journal, http, partyline).handle)
    journal.close()


if __name__ == "__main__":
    asyncio.run(main())
