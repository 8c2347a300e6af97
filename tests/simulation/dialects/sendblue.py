"""Sendblue: iMessage and SMS. A group is its id and its members drift; an account on the free plan has no ids."""

from datetime import UTC, datetime
from typing import Any, Final

from tests.simulation.traffic import Traffic
from tests.simulation.truth import NO_ID_NO_PEOPLE, REGISTRATION_LOST, Label, Send
from tests.simulation.world import Account, Circle, Group

_FREE: Final = "sendblue-free"
_FATES: Final = ("QUEUED", "SENT", "DELIVERED")


class Sendblue:
    """Everything that happens at Sendblue."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = traffic.rng

    def act(self, account: Account, circle: Circle) -> None:
        """One thing happens: somebody writes, or we do, alone or in a group."""
        traffic, rng = self._traffic, self._rng
        group = traffic.group_of(circle, account) if rng.random() < 0.6 else None
        if group is not None:
            traffic.churn(circle, account, group, traffic.world.handle)
            if rng.random() < 0.6:
                self._write_group(account, group)
            else:
                self._send_group(account, group)
            return
        people = traffic.world.people_of(account, circle)
        if not people:
            return
        person, line = rng.choice(people), circle.lines[account.name]
        label = traffic.world.direct(account, line, person)
        if rng.random() < 0.5:
            self._write_direct(account, line, person, label)
        else:
            self._send_direct(account, line, person, label)

    # --- somebody writes ---

    def _write_direct(self, account: Account, line: str, person: str, label: Label) -> None:
        """`participants` says nothing: nobody, the contact, or the contact and our line; `group_id` is empty."""
        rng = self._rng
        body = self._inbound(line, person, self._traffic.uuid().upper())
        listed: list[list[str]] = [[], [person], [person, line]]
        body["participants"] = [self._spell(other) for other in rng.choice(listed)]
        draw = rng.random()
        if draw < 0.1:
            body["group_id"] = None
        elif draw < 0.2:  # as in 2020
            for key in ("group_id", "participants", "message_type", "sendblue_number", "service"):
                del body[key]
        elif draw < 0.23:  # a vendor's example has our line as the sender
            body["from_number"], body["to_number"] = body["to_number"], body["from_number"]
        self._post(account, body, label)

    def _write_group(self, account: Account, group: Group) -> None:
        """Each of our lines in it may be told, with the same handle or another."""
        rng, traffic = self._rng, self._traffic
        sender = rng.choice(group.people)
        lines = group.lines if rng.random() < 0.8 else group.lines[:1]
        handle = traffic.uuid().upper()
        for line in lines:
            body = self._inbound(line, sender, handle)
            self._address(body, account, group, line)
            label = group.label
            if account.name == _FREE and len(lines) == 1 and rng.random() < 0.03:
                body["participants"] = []
                label = Label(label.truth, NO_ID_NO_PEOPLE)
            self._post(account, body, label)
            if rng.random() < 0.5:
                handle = traffic.uuid().upper()

    def _address(self, body: dict[str, Any], account: Account, group: Group, line: str) -> None:
        """Say that it is a group's. Our own line is listed or not, a second one of ours always is."""
        rng = self._rng
        people = [*group.people, *(other for other in group.lines if other != line)]
        if rng.random() < 0.6:
            people.append(line)
        if rng.random() < 0.05:
            people.append(rng.choice(people))
        rng.shuffle(people)
        body["participants"] = [self._spell(person) for person in people]
        body["message_type"] = "group"
        if account.name != _FREE:
            body["group_id"] = group.id
            body["message_type"] = "group" if rng.random() < 0.85 else "message"
            body["group_display_name"] = rng.choice(("", None, "Sunday hikers"))

    def _inbound(self, line: str, sender: str, handle: str) -> dict[str, Any]:
        from_number = self._spell(sender)
        return {
            **self._common(handle, self._traffic.now),
            "content": "Seven it is",
            "is_outbound": False,
            "status": "RECEIVED",
            "from_number": from_number,
            "number": from_number,
            "to_number": self._spell(line),
            "sendblue_number": self._spell(line),
        }

    # --- we write ---

    def _send_direct(self, account: Account, line: str, person: str, label: Label) -> None:
        handle, now = self._traffic.uuid(), self._traffic.now
        body = self._outbound(handle, now, line, [person], "QUEUED")
        self._traffic.register(account, now, body, [("", label)])
        for fate, at in self._fates(now):
            self._post(account, self._outbound(handle, at, line, [person], fate), label, at=at)

    def _send_group(self, account: Account, group: Group) -> None:
        """Reports bear the id or, of type group, only the handle; their numbers are a list, a text or nothing."""
        rng, traffic, now = self._rng, self._traffic, self._traffic.now
        handle, send, line = traffic.uuid(), Send(), group.line
        others = [*group.people, *(other for other in group.lines if other != line)]
        free = account.name == _FREE
        response = self._outbound(handle, now, line, others, "QUEUED") | {"message_type": "group"}
        told = Label(group.label.truth, REGISTRATION_LOST, send)
        if not free:
            response["group_id"] = group.id
        del response["participants"]
        # Without an id, whom it went to is the whole set.
        traffic.register(account, now, response, [("", group.label)], sends=(send,))
        with_id = not free and rng.random() < 0.7
        for fate, at in self._fates(now):
            body = self._outbound(handle, at, line, others, fate) | {"message_type": "group"}
            shape = rng.random()
            if shape < 0.2:
                body["number"] = body["to_number"] = self._spell(rng.choice(others))
            elif shape < 0.35:
                body["number"] = body["to_number"] = None if shape < 0.27 else []
            if with_id:
                self._address(body, account, group, line)
                self._post(account, body, group.label, sends=(send,), at=at)
            else:
                self._post(account, body, told, at=at)

    def _fates(self, now: float) -> list[tuple[str, float]]:
        rng = self._rng
        times = sorted(now + 0.2 + rng.random() * 20 for _ in _FATES)
        return [(fate, at) for fate, at in zip(_FATES, times, strict=True) if rng.random() < 0.6]

    def _outbound(self, handle: str, at: float, line: str, to: list[str], fate: str) -> dict[str, Any]:
        spelled = [self._spell(person) for person in to]
        number: Any = spelled if len(spelled) > 1 else spelled[0]
        return {
            **self._common(handle, at),
            "content": "Seven?",
            "is_outbound": True,
            "status": fate,
            "from_number": self._spell(line),
            "number": number,
            "to_number": number,
            "sendblue_number": line,
        }

    # --- parts ---

    def _common(self, handle: str, at: float) -> dict[str, Any]:
        return {
            "accountEmail": "owner@example.com",
            "error_code": None,
            "error_message": None,
            "message_handle": handle,
            "date_sent": _time(self._traffic.now),
            "date_updated": _time(at),
            "was_downgraded": None,
            "media_url": "",
            "message_type": "message",
            "group_id": "",
            "participants": [],
            "send_style": "",
            "service": "iMessage",
            "group_display_name": None,
        }

    def _post(
        self,
        account: Account,
        body: dict[str, Any],
        label: Label,
        *,
        sends: tuple[Send, ...] = (),
        at: float | None = None,
    ) -> None:
        """Some accounts get a wrapper, some a list."""
        draw = self._rng.random()
        wrapped: Any = {"data": body} if draw < 0.02 else [body] if draw < 0.04 else body
        when = self._traffic.now if at is None else at
        self._traffic.post(account, when, wrapped, [("", label)], sends=sends)

    def _spell(self, address: str) -> str:
        if "@" in address and self._rng.random() < 0.2:
            return address.title()
        return self._traffic.spell(address, ten_digits=True)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
