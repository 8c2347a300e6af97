"""The bot in deploy/examples, run as it is: between a real receiver, and a server that stands in for the providers."""

import asyncio
import re
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import format_time
from tests.bodies import Posted, sendblue_received, sendblue_report, telnyx_received, telnyx_report
from tests.examples import EXAMPLES, SERVER, TOKEN, joined, level, receive
from tests.processes import Process, Service, kill, service, started, until
from tests.provider_api import SENDBLUE_KEY, SENDBLUE_SECRET, TELNYX_KEY, ProviderApi, Sent, provider_api
from tests.service import ACCOUNTS, LINE

OTHER_LINE = "+15555550101"
ANN, BOB, CAT = "+15555550111", "+15555550112", "+15555550113"
GROUP_ID = "sb_group_rowing"
TEXT = "Thanks! We are out on the water and answer tomorrow."
COMMAND = [sys.executable, str(EXAMPLES / "auto_reply_bot.py")]
NOBODY = "http://127.0.0.1:9"

pytestmark = pytest.mark.slow


class Stage:
    """A receiver whose Telnyx account has two lines, the providers' API, and a folder for the bot's files."""

    def __init__(self, folder: Path, receiver: Service, api: ProviderApi, redis_url: str) -> None:
        self.folder, self.receiver, self.api, self._redis_url = folder, receiver, api, redis_url

    def bot(self, name: str = "bot", **more: str) -> AbstractContextManager[Process]:
        """The bot, told how to reach everybody."""
        environment = {
            "PARTYLINE_REDIS__URL": self._redis_url,
            "PARTYLINE_NAMESPACE": self.receiver.space.keys.namespace,
            "PARTYLINE_URL": str(self.receiver.client.base_url),
            "PARTYLINE_API_TOKEN": TOKEN,
            "TELNYX_API_URL": f"{self.api.base_url}/v2",
            "TELNYX_API_KEY": TELNYX_KEY,
            "SENDBLUE_API_URL": self.api.base_url,
            "SENDBLUE_API_KEY": SENDBLUE_KEY,
            "SENDBLUE_API_SECRET": SENDBLUE_SECRET,
            **more,
        }
        return started(COMMAND, self.folder, name, environment)

    async def joined(self) -> None:
        """Wait until the bot's group is there: from then on it gets what is published."""
        await joined(self.receiver, "bot")

    async def level(self) -> None:
        """Wait until everything that was posted is published, and handled by the bot."""
        await self.receiver.settled()
        await level(self.receiver, "bot")

    async def receive(self, posted: Posted) -> None:
        """A provider posts a callback."""
        await receive(self.receiver, posted)

    async def published(self, event_type: str, number: int = 1) -> list[dict[str, Any]]:
        """The events of a type, once there are so many."""
        async with asyncio.timeout(20):
            while True:
                found = [event for event in await self.receiver.space.events() if event["type"] == event_type]
                if len(found) >= number:
                    return found
                await asyncio.sleep(0.02)

    def states(self) -> list[str]:
        """How far the answers in the bot's journal are."""
        file = self.folder / "bot.sqlite3"
        if not file.exists():
            return []
        with closing(sqlite3.connect(file)) as database:
            return [state for (state,) in database.execute("SELECT state FROM answers ORDER BY at")]


@pytest.fixture
async def stage(namespace: str, redis_url: str) -> AsyncIterator[Stage]:
    """All of it, running, but for the bot."""
    accounts = {**ACCOUNTS, "main-telnyx": {**ACCOUNTS["main-telnyx"], "lines": [LINE, OTHER_LINE]}}
    sections: dict[str, Any] = {"redis": {"url": redis_url}, "server": SERVER, "accounts": accounts}
    with tempfile.TemporaryDirectory(prefix="partyline-bot-") as name:
        async with service(Path(name), namespace, **sections) as receiver, provider_api() as api:
            yield Stage(Path(name), receiver, api, redis_url)


def fresh(posted: Posted, *, minutes_ago: float = 0) -> Posted:
    """A Telnyx callback of just now, or of a while ago."""
    posted.body["data"]["occurred_at"] = format_time(datetime.now(UTC) - timedelta(minutes=minutes_ago))
    return posted


def group_message(**more: Any) -> Posted:
    """Ann writes to Bob and our line, by Telnyx, just now."""
    return fresh(telnyx_received(**{"cc": [BOB, LINE], **more}))


def report(sent: Sent, recipient: str) -> Posted:
    """Telnyx' report on a group send for one recipient, as it documents it: the id is the group message's."""
    return fresh(telnyx_report(to=[recipient], message=sent.id, group_message_id=sent.id))


# --- reports land in the conversation ---------------------------------------------------------------------


async def test_reports_on_an_answer_land_in_the_group(stage: Stage) -> None:
    """Message, answer and each recipient's report have one subject, and the last one's roll-up settles the answer."""
    with stage.bot() as running:
        await stage.joined()
        await stage.receive(group_message())
        sent = await stage.api.taken(1)
        await stage.published("message.outbound")
        await stage.receive(report(sent, ANN))
        await stage.receive(report(sent, BOB))
        *_, last = await stage.published("message.status", 2)
        running.signal(signal.SIGTERM)
        assert await running.status() == 0
    events = await stage.receiver.space.events()

    assert (sent.path, sent.body) == ("/v2/messages/group_mms", {"from": LINE, "to": [ANN, BOB], "text": TEXT})
    assert [event["type"] for event in events] == ["message.received", "message.outbound", *["message.status"] * 2]
    assert {event["subject"] for event in events} == {events[0]["subject"]}
    assert events[0]["data"]["conversation"]["participants"] == [ANN, BOB]
    assert {name: last["data"]["rollup"][name] for name in ("recipients", "delivered", "settled")} == {
        "recipients": 2,
        "delivered": 2,
        "settled": True,
    }
    assert TEXT not in running.log
    assert ANN not in running.log


async def test_a_report_before_the_answer_is_registered_is_merged_into_the_group(stage: Stage) -> None:
    """Telnyx reports before it has answered the send: provisional then, and merged once the bot has registered it."""

    async def report_first(sent: Sent) -> None:
        await stage.receive(report(sent, ANN))
        await stage.published("message.status")

    stage.api.before_answer = report_first
    with stage.bot():
        await stage.joined()
        await stage.receive(group_message())
        [merger] = await stage.published("conversation.merged")
        await stage.receive(report(await stage.api.taken(1), BOB))
        early, late = await stage.published("message.status", 2)
    [message] = await stage.published("message.received")

    assert early["data"]["conversation"]["provisional"] is True
    assert early["subject"] != message["subject"]
    assert (merger["subject"], merger["data"]["merged"]) == (message["subject"], [early["subject"]])
    assert late["subject"] == message["subject"]
    assert late["data"]["rollup"]["delivered"] == late["data"]["rollup"]["recipients"] == 2


async def test_answers_by_sendblue_land_in_the_conversation_too(stage: Stage) -> None:
    """In a group by its id, in a 1:1 by the pair; the report of each lands where the message is."""
    group = now(sendblue_received(participants=[ANN, BOB, LINE], group_id=GROUP_ID, message_type="group"))
    with stage.bot():
        await stage.joined()
        await stage.receive(group)
        to_group = await stage.api.taken(1)
        await stage.receive(now(sendblue_received(sender=CAT)))
        to_cat = await stage.api.taken(2)
        await stage.published("message.outbound", 2)
        await stage.receive(
            now(sendblue_report(handle=to_group.id, to=[ANN, BOB], group_id=GROUP_ID, message_type="group"))
        )
        await stage.receive(now(sendblue_report(handle=to_cat.id, to=CAT)))
        reports = await stage.published("message.status", 2)
    messages = await stage.published("message.received", 2)

    assert to_group.path == "/api/send-group-message"
    assert to_group.body == {"from_number": LINE, "content": TEXT, "group_id": GROUP_ID}
    assert to_cat.path == "/api/send-message"
    assert to_cat.body == {"from_number": LINE, "number": CAT, "content": TEXT}
    assert [event["subject"] for event in reports] == [event["subject"] for event in messages]
    assert [event["data"]["rollup"]["settled"] for event in reports] == [True, True]


def now(posted: Posted) -> Posted:
    """A Sendblue callback of just now."""
    stamp = format_time(datetime.now(UTC))
    posted.body.update({name: stamp for name in ("date_sent", "date_updated") if name in posted.body})
    return posted


async def test_one_person_alone_is_answered_by_sms(stage: Stage) -> None:
    """An SMS of a 1:1 is answered to its sender, and its report lands in the 1:1."""
    with stage.bot():
        await stage.joined()
        await stage.receive(group_message(cc=None, kind="SMS"))
        sent = await stage.api.taken(1)
        await stage.published("message.outbound")
        await stage.receive(fresh(telnyx_report(to=[ANN], message=sent.id, kind="SMS")))
        await stage.published("message.status")

    assert (sent.path, sent.body) == ("/v2/messages", {"from": LINE, "to": ANN, "text": TEXT})
    assert re.fullmatch("[A-Za-z0-9_:-]{1,255}", sent.key or "")  # as Telnyx takes idempotency keys
    assert len({event["subject"] for event in await stage.receiver.space.events()}) == 1


# --- what is not answered ---------------------------------------------------------------------------------


async def test_only_news_of_others_is_answered(stage: Stage) -> None:
    """Neither old messages, nor our own lines, nor STOP, nor what another line was told as well: each group once."""
    stop = group_message(cc=None, sender=CAT, kind="SMS")
    stop.body["data"]["payload"]["autoresponse_type"] = "STOP"
    with stage.bot():
        await stage.joined()
        await stage.receive(fresh(telnyx_received(cc=[CAT, LINE]), minutes_ago=11))
        await stage.receive(group_message(sender=OTHER_LINE, cc=[BOB, LINE]))
        await stage.receive(stop)
        await stage.receive(group_message(to=[LINE], cc=[BOB, CAT, OTHER_LINE]))
        await stage.receive(group_message(to=[OTHER_LINE], cc=[BOB, CAT, LINE]))
        await stage.level()
    messages = await stage.published("message.received", 5)

    assert "copy_of" in messages[4]["data"]
    assert [sent.body["to"] for sent in stage.api.sends] == [[ANN, BOB, CAT, OTHER_LINE]]


async def test_another_bot_is_not_answered_for_ever(stage: Stage) -> None:
    """A bot that answers ours at once gets three answers; somebody else is still answered."""

    async def answer_back(_: Sent) -> None:
        await stage.receive(group_message())

    with stage.bot() as running:
        await stage.joined()
        stage.api.before_answer = answer_back
        await stage.receive(group_message())
        await running.says("has had 3 answers in an hour")
        await stage.level()
        assert len(stage.api.sends) == 3
        await stage.receive(group_message(cc=None, sender=CAT, kind="SMS"))
        await stage.api.taken(4)

    assert [sent.body["to"] for sent in stage.api.sends[2:4]] == [[ANN, BOB], CAT]


# --- crashes and failures ---------------------------------------------------------------------------------


async def test_a_crash_in_the_middle_of_a_send_answers_nobody_twice(stage: Stage) -> None:
    """Killed after the provider took the send and before it answered: not sent again, and said so."""
    stage.api.before_answer = never
    with stage.bot() as killed:
        await stage.joined()
        await stage.receive(group_message())
        await stage.api.taken(1)
        kill(killed.family())
    with stage.bot("after") as after:
        await after.says("was answered is not known; not again")
        await stage.level()

    assert len(stage.api.sends) == 1
    assert stage.states() == ["begun"]


async def never(_: Sent) -> None:
    """The provider does not answer while anybody waits."""
    await asyncio.sleep(5)


@pytest.mark.parametrize("wrong", [{"PARTYLINE_URL": NOBODY}, {"PARTYLINE_API_TOKEN": "wrong"}], ids=str)
async def test_a_crash_before_registering_is_made_good(wrong: dict[str, str], stage: Stage) -> None:
    """Killed after the send and before partyline could be told: told once that is possible, and sent once."""
    with stage.bot(**wrong) as killed:
        await stage.joined()
        await stage.receive(group_message())
        await until(lambda: stage.states() == ["sent"], "it is sent")
        kill(killed.family())
    with stage.bot("after"):
        await stage.published("message.outbound")
        await stage.level()

    assert len(stage.api.sends) == 1
    assert stage.states() == ["registered"]


@pytest.mark.parametrize(
    ("status", "requests", "state"),
    [(401, 2, "registered"), (429, 2, "registered"), (500, 1, "begun"), (400, 1, "refused")],
)
async def test_only_what_was_surely_not_sent_is_sent_again(
    status: int, requests: int, state: str, stage: Stage
) -> None:
    """After 401 and 429 it is tried again; after a 5xx it may have gone out; any other 4xx is final."""
    stage.api.failures.append(status)
    with stage.bot():
        await stage.joined()
        await stage.receive(group_message())
        await stage.level()

    assert stage.api.requests == requests
    assert stage.states() == [state]


async def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key for any provider it ends at once, and names the variables."""
    for variable in ("TELNYX_API_KEY", "SENDBLUE_API_KEY", "SENDBLUE_API_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    with started(COMMAND, tmp_path, "bot") as running:
        await running.says("set TELNYX_API_KEY, or SENDBLUE_API_KEY and SENDBLUE_API_SECRET")
        assert await running.status() == 1
