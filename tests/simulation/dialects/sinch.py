"""Sinch SMS: 1:1s only. A report names a batch and a recipient; which line it was tells the send, if anything does."""

from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from tests.simulation.traffic import Named, Traffic
from tests.simulation.truth import NO_LINE, REGISTRATION_LOST, WHOLE_BATCH, Label, Send
from tests.simulation.world import Account, Circle

_FINAL: Final = (("Delivered", 0), ("Delivered", 0), ("Delivered", 0), ("Failed", 11), ("Aborted", 412))


class Batch:
    """One send of ours, to some people or to a group of Sinch's; each person has a conversation of their own."""

    __slots__ = ("group", "id", "labels", "line", "named", "sends", "to", "whole")

    def __init__(self, batch_id: str, line: str, named: str, to: list[str]) -> None:
        """`named`: how reports tell the line: `never`, `always`, `at times`, or by the account's `default`."""
        self.id, self.line, self.named, self.to = batch_id, line, named, to
        self.labels: dict[str, Label] = {}
        self.sends = {person: Send() for person in to}
        #: The group's id and label, if it went to one.
        self.group: tuple[str, Label] | None = None
        #: What reports on the batch as a whole are tied to.
        self.whole = Send()


class Sinch:
    """Everything that happens at Sinch."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = traffic.rng
        self._recent: deque[str] = deque(maxlen=50)
        self._groups: dict[tuple[str, ...], str] = {}

    def act(self, account: Account, circle: Circle) -> None:
        """One thing happens: somebody writes, or we send a batch."""
        people = self._traffic.world.people_of(account, circle)
        if not people:
            return
        line = circle.lines[account.name]
        if self._rng.random() < 0.2:
            line = self._rng.choice(account.lines)
        if self._rng.random() < 0.5:
            self._write(account, line, self._rng.choice(people))
        else:
            self._send(account, line, people)

    # --- somebody writes ---

    def _write(self, account: Account, line: str, person: str) -> None:
        rng, now = self._rng, self._traffic.now
        # Inbound ids and batch ids look alike, and one may be the other.
        identifier = self._recent.pop() if self._recent and rng.random() < 0.01 else self._id()
        body = {
            "type": "mo_text",
            "id": identifier,
            "from": self._spell(person),
            "to": self._spell(line),
            "body": "Seven it is",
            "received_at": _time(now),
        }
        label = self._traffic.world.direct(account, line, person)
        self._traffic.post(account, now, body, [("", label)])

    # --- we write ---

    def _send(self, account: Account, line: str, people: list[str]) -> None:
        rng, now = self._rng, self._traffic.now
        to_group = rng.random() < 0.06
        batch, surely = self._batch(account, line, people if to_group or rng.random() < 0.3 else [rng.choice(people)])
        if to_group:
            group = self._groups.setdefault((account.name, *people), self._id())
            batch.group = (group, self._traffic.world.label(account.name, "group", group))
        self._register(account, batch, surely=surely)
        self._recent.append(batch.id)
        draw = rng.random()
        if draw < 0.12 and batch.named != "always":
            self._full(account, batch, now + 5 + rng.random() * 60)
        elif draw < 0.17:
            self._summary(account, batch, now + 5 + rng.random() * 60)
        else:
            for person in batch.to:
                self._reports(account, batch, person, now)

    def _batch(self, account: Account, line: str, to: list[str]) -> tuple[Batch, bool]:
        """A batch, and whether it must surely be registered, since else everything would name the default line."""
        rng = self._rng
        default = account.facts.default_line
        surely = False
        if default is None:
            named = rng.choices(("never", "at times", "always"), (70, 20, 10))[0]
        elif line == default:
            named = "default"
        else:
            surely = self._traffic.registrations and rng.random() < 0.7
            named = "never" if surely else "always"
        batch = Batch(self._id(), line, named, to)
        batch.labels = {person: self._traffic.world.direct(account, line, person) for person in to}
        return batch, surely

    def _register(self, account: Account, batch: Batch, *, surely: bool) -> None:
        """The response. A pool of originators leaves out `from`; a group of Sinch's hides who it goes to."""
        pool = batch.named in {"at times", "always"} and account.facts.default_line is None
        body: dict[str, Any] = {
            "id": batch.id,
            "to": [self._spell(person) for person in batch.to] if batch.group is None else [batch.group[0]],
            "canceled": False,
            "body": "Seven?",
            "type": "mt_text",
            "created_at": _time(self._traffic.now),
        }
        if not pool:
            body["from"] = self._spell(batch.line)
        sends = () if pool else tuple(batch.sends.values())
        labels: list[Named] = [
            (person, self._told(batch, person, NO_LINE) if pool else batch.labels[person]) for person in batch.to
        ]
        if batch.group is not None:
            labels = [("", batch.group[1])]
        if batch.group is not None or not pool:
            sends = (*sends, batch.whole)
        self._traffic.register(account, self._traffic.now, body, labels, sends=sends, surely=surely)

    def _told(self, batch: Batch, person: str, reason: str) -> Label:
        return Label(batch.labels[person].truth, reason, batch.sends[person])

    def _label(self, batch: Batch, person: str) -> Label:
        """Of a report that names no line."""
        if batch.named == "default":
            return batch.labels[person]
        return self._told(batch, person, REGISTRATION_LOST if batch.named == "never" else NO_LINE)

    def _reports(self, account: Account, batch: Batch, person: str, now: float) -> None:
        """One for each change of one recipient's state."""
        rng = self._rng
        word, code = rng.choice(_FINAL)
        fates = [("Queued", 400), ("Dispatched", 401), (word, code)]
        for at, (status, number) in zip(sorted(now + rng.random() * 60 for _ in fates), fates, strict=True):
            if status == "Queued" and rng.random() < 0.8:
                continue
            body = {
                "type": "recipient_delivery_report_sms",
                "batch_id": batch.id,
                "recipient": self._spell(person),
                "code": number if rng.random() < 0.9 else str(number),
                "status": status,
                "at": _time(at),
            }
            if batch.named == "always" or (batch.named == "at times" and rng.random() < 0.4):
                body["applied_originator"] = self._spell(batch.line)
                named, decides = (person, batch.labels[person]), batch.sends[person]
                self._traffic.post(account, at, body, [named], sends=(decides,))
            else:
                self._traffic.post(account, at, body, [(person, self._label(batch, person))])

    def _full(self, account: Account, batch: Batch, at: float) -> None:
        """Everybody's last state in one report, by status and code."""
        buckets: dict[tuple[str, int], list[str]] = {}
        for person in batch.to:
            buckets.setdefault(self._rng.choice(_FINAL), []).append(person)
        statuses: list[dict[str, Any]] = [
            {"code": code, "status": word, "count": len(some), "recipients": [self._spell(one) for one in some]}
            for (word, code), some in buckets.items()
        ]
        labels = [(person, self._label(batch, person)) for some in buckets.values() for person in some]
        self._traffic.post(account, at, self._batch_report(batch, statuses), labels)

    def _summary(self, account: Account, batch: Batch, at: float) -> None:
        """Only counts: the group's or the one person's conversation, if the send says whose; of several, nobody's."""
        label = Label((account.name, "batch", batch.id), WHOLE_BATCH)
        if batch.group is not None:
            label = Label(batch.group[1].truth, REGISTRATION_LOST, batch.whole)
        elif len(batch.to) == 1:
            label = Label(batch.labels[batch.to[0]].truth, REGISTRATION_LOST, batch.whole)
        body = self._batch_report(batch, [{"code": 0, "status": "Delivered", "count": len(batch.to)}])
        self._traffic.post(account, at, body, [("", label)])

    def _batch_report(self, batch: Batch, statuses: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "type": "delivery_report_sms",
            "batch_id": batch.id,
            "total_message_count": len(batch.to),
            "statuses": statuses,
        }

    # --- parts ---

    def _id(self) -> str:
        return f"01{self._rng.getrandbits(96):024X}"

    def _spell(self, address: str) -> str:
        return self._traffic.spell(address, bare=0.6)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
