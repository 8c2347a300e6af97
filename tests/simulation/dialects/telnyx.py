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


class Telnyx:
    """Everything that happens at Telnyx."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = traffic.rng

    def act(self, account: Account, circle: Circle) -> None:
        """One thing happens: somebody writes, or we do, alone or in a group."""
        traffic, rng = self._traffic, self._rng
        group = traffic.group_of(circle, account) if rng.random() < 0.6 else None
        if group is not None:
            traffic.churn(circle, account, group, str)
        people = traffic.world.people_of(account, circle) if group is None else group.people
        line = circle.lines[account.name]
        lines = (line,) if group is None else group.lines
        if not people:
            return
        if group is None:
            people = [rng.choice(people)]
        label = traffic.world.label(account.name, "set", *sorted({*people, *lines}))
        if rng.random() < 0.5:
            self._write(account, people, lines, label)
        elif group is None:
            self._send_direct(account, line, people[0], label)
        else:
            self._send_group(account, people, lines, label)

    # --- somebody writes ---

    def _write(self, account: Account, people: list[str], lines: tuple[str, ...], label: Label) -> None:
        """Each of our lines in it is told by a callback of its own, with ids of its own."""
        rng, now = self._rng, self._traffic.now
        sender = rng.choice(people)
        if len(lines) > 1 and rng.random() < 0.1:
            sender = lines[1]  # we wrote from one line, and the other one is told
        for line in lines:
            if line != sender:
                self._tell(account, now, line, sender, {*people, *lines}, label)

    def _tell(self, account: Account, now: float, line: str, sender: str, everybody: set[str], label: Label) -> None:
        rng = self._rng
        others = sorted(everybody - {line, sender})
        own = [other for other in others if other in account.lines and rng.random() < 0.5]
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
            payload["cc"] = [] if rng.random() < 0.6 else [line]
            if rng.random() < 0.4:
                del payload["cc"]
        self._post(account, now, "message.received", payload, label)

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

    def _send_direct(self, account: Account, line: str, person: str, label: Label) -> None:
        rng, now = self._rng, self._traffic.now
        message, send = self._traffic.uuid(), Send()
        mms = rng.random() < 0.3
        self._register(account, message, line, [person], label, mms=mms, sends=(send,))
        if account.facts.strict_groups and mms:
            told, sends = Label(label.truth, STRICT_BARE, send), ()
        else:
            told, sends = label, (send,)
        for event_type, fate, at in self._fates(now):
            payload = self._report(message, line, [person], fate, at, mms=mms)
            self._post(account, at, event_type, payload, told, sends)

    def _send_group(self, account: Account, people: list[str], lines: tuple[str, ...], label: Label) -> None:
        rng, now = self._rng, self._traffic.now
        line = lines[0]
        others = sorted({*people, *lines} - {line})
        message, registered, reported = self._traffic.uuid(), Send(), Send()
        style = rng.choices(_STYLES, _STYLE_WEIGHTS)[0]
        if account.facts.strict_groups and rng.random() < 0.5:
            style = "bare"
        if style in ("shared id", "own ids", "send's id", "cc", "all") or (style == "bare" and rng.random() < 0.8):
            registered = reported
        elif style == "bare":
            style = "bare own ids"
        self._register(account, message, line, others, label, mms=True, sends=(registered,))
        reason = {"other id": OTHER_ID}.get(style, STRICT_BARE if style.startswith("bare") else REGISTRATION_LOST)
        told = Label(label.truth, reason, reported)
        if rng.random() < 0.3:
            at = now + rng.random()
            if style in ("cc", "all") or (rng.random() < 0.3 and reported is registered):
                payload = self._report(message, line, others, "sent", at, mms=True)
                self._post(account, at, "message.sent", payload, label, (reported,))
        if style == "all":
            at = now + 1 + rng.random() * 30
            payload = self._report(message, line, others, "delivered", at, mms=True)
            if rng.random() < 0.5:
                payload["group_message_id"] = message
            self._post(account, at, "message.finalized", payload, label, (reported,))
            return
        foreign = self._traffic.uuid()
        for other in others:
            at = now + 1 + rng.random() * 60
            payload = self._report(message, line, [other], rng.choice(_FATES), at, mms=True)
            if style == "cc":
                payload["cc"] = [self._spell(copied) for copied in others if copied != other]
                if len(others) == 1 or rng.random() < 0.5:
                    payload["group_message_id"] = message
                self._post(account, at, "message.finalized", payload, label, (reported,))
                continue
            self._name(payload, style, message, foreign)
            self._post(account, at, "message.finalized", payload, told)

    def _name(self, payload: dict[str, Any], style: str, message: str, foreign: str) -> None:
        """Which ids a report on one recipient of a group message bears."""
        if style in ("own ids", "other id", "bare own ids"):
            payload["id"] = self._traffic.uuid()
        if style in ("send's id", "other id"):
            payload["group_message_id"] = foreign
        elif style in ("shared id", "own ids"):
            payload["group_message_id"] = message

    def _fates(self, now: float) -> list[tuple[str, str, float]]:
        rng = self._rng
        fates = [("message.finalized", rng.choice(_FATES), now + 1 + rng.random() * 30)]
        return [("message.sent", "sent", now + rng.random()), *fates] if rng.random() < 0.5 else fates

    def _report(
        self, message: str, line: str, to: list[str], fate: str, at: float, *, mms: bool
    ) -> dict[str, Any]:
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

    def _register(
        self,
        account: Account,
        message: str,
        line: str,
        to: list[str],
        label: Label,
        *,
        mms: bool,
        sends: tuple[Send, ...],
    ) -> None:
        """The response to a send. `from` is a bare text, and no published one has a group_message_id."""
        response = {
            "data": {
                "record_type": "message",
                "direction": "outbound",
                "id": message,
                "type": "MMS" if mms else "SMS",
                "from": line if self._rng.random() < 0.8 else {"phone_number": line},
                "to": [self._party(person, "queued") for person in to],
                "text": "Seven?",
                "media": [],
            }
        }
        body = {"response": response, "request": {"from": line, "to": to}} if self._rng.random() < 0.3 else response
        self._traffic.register(account, self._traffic.now, body, [("", label)], sends=sends)

    # --- parts ---

    def _post(
        self,
        account: Account,
        at: float,
        event_type: str,
        payload: dict[str, Any],
        label: Label,
        sends: tuple[Send, ...] = (),
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

        self._traffic.post(account, at, body, [("", label)], sends=sends, retried=again)

    def _spell(self, address: str) -> str:
        return self._traffic.spell(address, ten_digits=True)

    def _sender(self, address: str, *, bare: float) -> Any:
        spelled = self._spell(address)
        return spelled if self._rng.random() < bare else {"carrier": "", "line_type": "", "phone_number": spelled}

    def _party(self, address: str, status: str) -> dict[str, Any]:
        return {"carrier": "", "line_type": "Wireless", "phone_number": self._spell(address), "status": status}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
