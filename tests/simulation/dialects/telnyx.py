"""Telnyx: SMS and group MMS. A group is its set of numbers; reports come in every shape that any page describes."""

from datetime import UTC, datetime
from typing import Any, Final

from tests.simulation.traffic import Traffic
from tests.simulation.truth import OTHER_ID, REGISTRATION_LOST, STRICT_BARE, Label, Send
from tests.simulation.world import Account, Circle

_HOOK: Final = "https://hooks.example.com/webhooks/telnyx"
_FAILOVER: Final = "https://failover.example.com/webhooks/telnyx"
_STYLES: Final = ("shared id", "own ids", "send's id", "other id", "cc", "all")
_STYLE_WEIGHTS: Final = (30, 22, 10, 3, 15, 20)
_FATES: Final = ("delivered", "delivered", "delivered", "delivery_unconfirmed", "unknown", "delivery_failed")


class Thread:
    """One conversation: our lines in it, the first of which we write from, and everybody else."""

    __slots__ = ("account", "label", "lines", "people")

    def __init__(self, account: Account, lines: tuple[str, ...], people: list[str], label: Label) -> None:
        self.account, self.lines, self.people, self.label = account, lines, people, label

    @property
    def line(self) -> str:
        """The line that we write from."""
        return self.lines[0]

    @property
    def everybody(self) -> set[str]:
        """All addresses, ours included: the set that it is."""
        return {*self.people, *self.lines}


class Sent:
    """One message of ours to a group: its id, how its reports name it, and what they are tied to."""

    __slots__ = ("foreign", "id", "registered", "reported", "style", "told")

    def __init__(self, message_id: str, foreign: str, style: str, label: Label, *, tied: bool) -> None:
        """`foreign`: an id that is not the send's; `tied`: whether reports share an id with the send."""
        self.id, self.foreign, self.style = message_id, foreign, style
        self.reported = Send()
        self.registered = self.reported if tied else Send()
        reason = {"other id": OTHER_ID, "bare": STRICT_BARE, "bare, own ids": STRICT_BARE}
        #: The label of a report that does not tell who else is in the group.
        self.told = Label(label.truth, reason.get(style, REGISTRATION_LOST), self.reported)


class Telnyx:
    """Everything that happens at Telnyx."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = traffic.rng

    def act(self, account: Account, circle: Circle) -> None:
        """One thing happens: somebody writes, or we do, alone or in a group."""
        thread = self._thread(account, circle)
        if thread is None:
            return
        if self._rng.random() < 0.5:
            self._write(thread)
        elif len(thread.everybody) > 2:
            self._send_group(thread)
        else:
            self._send_direct(thread)

    def _thread(self, account: Account, circle: Circle) -> Thread | None:
        traffic, rng = self._traffic, self._rng
        group = traffic.group_of(circle, account) if rng.random() < 0.6 else None
        if group is not None:
            traffic.churn(circle, account, group, str)
            return Thread(account, group.lines, group.people, group.label)
        people = traffic.world.people_of(account, circle)
        if not people:
            return None
        line, person = circle.lines[account.name], rng.choice(people)
        return Thread(account, (line,), [person], traffic.world.direct(account, line, person))

    # --- somebody writes ---

    def _write(self, thread: Thread) -> None:
        """Each of our lines in it is told by a callback of its own, with ids of its own."""
        rng = self._rng
        sender = rng.choice(thread.people)
        if len(thread.lines) > 1 and rng.random() < 0.1:
            sender = thread.lines[1]  # we wrote from one line, and the other one is told
        for line in thread.lines:
            if line != sender:
                self._tell(thread, line, sender)

    def _tell(self, thread: Thread, line: str, sender: str) -> None:
        rng, now = self._rng, self._traffic.now
        others = sorted(thread.everybody - {line, sender})
        own = [other for other in others if other in thread.account.lines and rng.random() < 0.5]
        payload = {
            "cc": self._copied([other for other in others if other not in own], line, sender),
            "direction": "inbound",
            "encoding": "GSM-7",
            "from": self._sender(sender, bare=0.05),
            "id": self._traffic.uuid(),
            "media": [],
            "received_at": _time(now),
            "record_type": "message",
            "text": "Seven it is",
            "to": [self._party(to, "webhook_delivered") for to in (line, *own)],
            "type": "MMS" if others else "SMS",
        }
        if not others and rng.random() < 0.6:
            payload["cc"] = [line] if rng.random() < 0.4 else None
        if not payload["cc"] and not others and rng.random() < 0.5:
            del payload["cc"]
        self._post(thread, now, "message.received", payload)

    def _copied(self, others: list[str], line: str, sender: str) -> list[Any]:
        """`cc`: texts, objects or both; our own number and the sender's in it or not; somebody twice."""
        rng = self._rng
        copied = list(others)
        if others and rng.random() < 0.5:
            copied.append(line)
        if others and rng.random() < 0.12:
            copied.append(sender)
        if others and rng.random() < 0.08:
            copied.append(rng.choice(others))
        rng.shuffle(copied)
        texts = rng.choice((0.0, 0.5, 1.0))
        return [
            self._spell(other) if rng.random() < texts else {"phone_number": self._spell(other)} for other in copied
        ]

    # --- we write ---

    def _send_direct(self, thread: Thread) -> None:
        rng, now = self._rng, self._traffic.now
        message, send = self._traffic.uuid(), Send()
        mms = rng.random() < 0.3
        self._register(thread, message, thread.people, mms=mms, send=send)
        bare = thread.account.facts.strict_groups and mms
        label = Label(thread.label.truth, STRICT_BARE, send) if bare else thread.label
        fates = [("message.finalized", rng.choice(_FATES), now + 1 + rng.random() * 30)]
        if rng.random() < 0.5:
            fates.append(("message.sent", "sent", now + rng.random()))
        for event_type, fate, at in fates:
            payload = self._report(message, thread.line, thread.people, fate, at, mms=mms)
            self._post(thread, at, event_type, payload, label=label, decides=None if bare else send)

    def _send_group(self, thread: Thread) -> None:
        """Reports come one for each recipient or all in one, and name the group message in one way or another."""
        rng, now = self._rng, self._traffic.now
        others = sorted(thread.everybody - {thread.line})
        sent = self._sent(thread)
        self._register(thread, sent.id, others, mms=True, send=sent.registered)
        told_of_all = sent.style in {"cc", "all"} or (sent.registered is sent.reported and rng.random() < 0.3)
        if told_of_all and rng.random() < 0.3:
            self._report_all(thread, sent, others, "sent", now + rng.random())
        if sent.style == "all":
            self._report_all(thread, sent, others, "delivered", now + 1 + rng.random() * 30)
            return
        for other in others:
            self._report_one(thread, sent, others, other, at=now + 1 + rng.random() * 60)

    def _sent(self, thread: Thread) -> Sent:
        rng, traffic = self._rng, self._traffic
        style = rng.choices(_STYLES, _STYLE_WEIGHTS)[0]
        if thread.account.facts.strict_groups and rng.random() < 0.5:
            style = "bare" if rng.random() < 0.8 else "bare, own ids"
        tied = style not in {"other id", "bare, own ids"}
        return Sent(traffic.uuid(), traffic.uuid(), style, thread.label, tied=tied)

    def _report_all(self, thread: Thread, sent: Sent, others: list[str], fate: str, at: float) -> None:
        payload = self._report(sent.id, thread.line, others, fate, at, mms=True)
        if self._rng.random() < 0.5:
            payload["group_message_id"] = sent.id
        event_type = "message.sent" if fate == "sent" else "message.finalized"
        self._post(thread, at, event_type, payload, decides=sent.reported)

    def _report_one(self, thread: Thread, sent: Sent, others: list[str], other: str, *, at: float) -> None:
        payload = self._report(sent.id, thread.line, [other], self._rng.choice(_FATES), at, mms=True)
        if sent.style == "cc":
            payload["cc"] = [self._spell(copied) for copied in others if copied != other]
            if self._rng.random() < 0.5:
                payload["group_message_id"] = sent.id
            self._post(thread, at, "message.finalized", payload, decides=sent.reported)
            return
        if sent.style in {"own ids", "other id", "bare, own ids"}:
            payload["id"] = self._traffic.uuid()
        if sent.style in {"send's id", "other id"}:
            payload["group_message_id"] = sent.foreign
        elif sent.style in {"shared id", "own ids"}:
            payload["group_message_id"] = sent.id
        self._post(thread, at, "message.finalized", payload, label=sent.told)

    def _report(self, message: str, line: str, to: list[str], fate: str, at: float, *, mms: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "completed_at": _time(at),
            "direction": "outbound",
            "encoding": "GSM-7",
            "errors": [],
            "from": self._sender(line, bare=0.2),
            "id": message,
            "media": [],
            "record_type": "message",
            "text": "Seven?",
            "to": [self._party(person, fate) for person in to],
            "type": "MMS" if mms else "SMS",
        }
        if self._rng.random() < 0.4:
            payload["cc"] = []
        return payload

    def _register(self, thread: Thread, message: str, to: list[str], *, mms: bool, send: Send) -> None:
        """The response to a send. `from` is a bare text, and no published one has a group_message_id."""
        response = {
            "data": {
                "record_type": "message",
                "direction": "outbound",
                "id": message,
                "type": "MMS" if mms else "SMS",
                "from": thread.line if self._rng.random() < 0.8 else {"phone_number": thread.line},
                "to": [self._party(person, "queued") for person in to],
                "text": "Seven?",
                "media": [],
            }
        }
        body: dict[str, Any] = response
        if self._rng.random() < 0.3:
            body = {"response": response, "request": {"from": thread.line, "to": to, "text": "Seven?"}}
        self._traffic.register(thread.account, self._traffic.now, body, [("", thread.label)], sends=(send,))

    # --- parts ---

    def _post(
        self,
        thread: Thread,
        at: float,
        event_type: str,
        payload: dict[str, Any],
        *,
        label: Label | None = None,
        decides: Send | None = None,
    ) -> None:
        event: dict[str, Any] = {
            "event_type": event_type,
            "id": self._traffic.uuid(),
            "occurred_at": _time(at),
            "payload": payload,
            "record_type": "event",
        }
        body: dict[str, Any] = {"data": event}
        if self._rng.random() < 0.8:
            body["meta"] = {"attempt": 1, "delivered_to": _HOOK}

        def again() -> None:
            body["meta"] = {"attempt": 2, "delivered_to": _FAILOVER}

        sends = () if decides is None else (decides,)
        labels = [("", label or thread.label)]
        self._traffic.post(thread.account, at, body, labels, sends=sends, retried=again)

    def _spell(self, address: str) -> str:
        return self._traffic.spell(address, ten_digits=True)

    def _sender(self, address: str, *, bare: float) -> Any:
        spelled = self._spell(address)
        return spelled if self._rng.random() < bare else {"carrier": "", "line_type": "", "phone_number": spelled}

    def _party(self, address: str, status: str) -> dict[str, Any]:
        return {"carrier": "", "line_type": "Wireless", "phone_number": self._spell(address), "status": status}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
