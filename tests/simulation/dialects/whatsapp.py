"""WhatsApp: people who show a phone, a user id or both; groups with ids; many updates in one callback."""

from typing import Any, Final

from tests.simulation.traffic import Named, Traffic
from tests.simulation.truth import NO_REQUEST, PHONE_IN_DOUBT, Label, Send, Sighting
from tests.simulation.world import Account, Circle, Group, WhatsAppUser

#: How often somebody shows both, the phone alone, the user id alone.
_SHOWN: Final = {"phone": (0, 1, 0), "open": (60, 25, 15), "shy": (15, 10, 75), "apart": (0, 50, 50)}
_ARRAYS: Final = ("messages", "statuses", "groups", "user_id_update")
_CHANGES_NUMBER: Final = 0.04
_WABA: Final = "102290129340398"
_PARTICIPANT_KEYS: Final = (
    ("recipient_participant_id", "recipient_participant_user_id"),
    ("participant_recipient_id", "participant_recipient_user_id"),
)


class Element:
    """One update on its way into a callback: where it goes, and its truth."""

    __slots__ = ("array", "contact", "decides", "label", "line", "node", "send", "sighting")

    def __init__(
        self,
        array: str,
        line: str,
        node: dict[str, Any],
        label: Label,
        *,
        contact: dict[str, Any] | None = None,
        sighting: Sighting | None = None,
        send: Send | None = None,
        decides: Send | None = None,
    ) -> None:
        self.array, self.line, self.node, self.label = array, line, node, label
        self.contact, self.sighting, self.send, self.decides = contact, sighting, send, decides


class WhatsApp:
    """Everything that happens on WhatsApp."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = traffic.rng

    def act(self, account: Account, circle: Circle) -> None:
        """One thing happens: people write, we write, somebody joins or leaves, somebody has a new number."""
        traffic, rng = self._traffic, self._rng
        people = traffic.world.people_of(account, circle)
        if not people:
            return
        if traffic.user_ids and rng.random() < _CHANGES_NUMBER:
            self._change_number(account, circle, rng.choice(people))
        group = traffic.group_of(circle, account)
        if group is not None:
            self._member(account, circle, group)
        if rng.random() < 0.5:
            self._write(account, circle, people)
        elif group is not None and rng.random() < 0.5:
            self._send_group(account, group)
        else:
            self._send_direct(account, circle, rng.choice(people))

    # --- who shows what ---

    def _shown(self, user: WhatsAppUser) -> tuple[str | None, str | None]:
        """The phone and the user id, as far as one callback shows them."""
        weights = _SHOWN[user.style]
        if self._traffic.now < user.debut:
            weights = (1, 0, 1)
        shows = self._rng.choices(("both", "phone", "id"), weights)[0]
        return (None if shows == "id" else user.phone, None if shows == "phone" else user.user_id)

    def _named(
        self, user: WhatsAppUser, phone_key: str, id_key: str
    ) -> tuple[dict[str, Any], dict[str, Any] | None, tuple[str | None, str | None]]:
        """The members that name somebody, their contact, and what both together show.

        A contact adds the half that the element leaves out.
        """
        rng = self._rng
        phone, user_id = self._shown(user)
        named: dict[str, Any]
        contact: dict[str, Any] = {"profile": {"name": "Somebody"}}
        if phone and user_id:
            contact |= {"wa_id": phone[1:], "user_id": user_id}
            form = rng.choice(("both", phone_key, id_key))
            named = {phone_key: self._digits(phone)} if form != id_key else {}
            named |= {id_key: user_id} if form != phone_key else {}
            return named, contact if form != "both" or rng.random() < 0.5 else None, (phone, user_id)
        if phone:
            named = {phone_key: self._digits(phone)}
            contact |= {"wa_id": phone[1:]}
        elif rng.random() < 0.8:
            named, contact = {id_key: user_id}, contact | {"user_id": user_id}
        else:  # a user id where a phone is expected
            named, contact = {phone_key: user_id}, contact | {"wa_id": user_id, "user_id": user_id}
        return named, contact if rng.random() < 0.6 else None, (phone, user_id)

    def _digits(self, phone: str) -> str:
        return phone[1:] if self._rng.random() < 0.95 else phone

    def _direct(self, account: Account, line: str, user: WhatsAppUser) -> tuple[str, str, str, str]:
        return (account.name, "direct", account.number_ids[line], user.id)

    def _in_direct(
        self, account: Account, line: str, user: WhatsAppUser, shown: tuple[str | None, str | None], send: Send | None
    ) -> tuple[Label, Sighting]:
        sighting = Sighting(account.name, account.number_ids[line], *shown)
        return Label(self._direct(account, line, user), PHONE_IN_DOUBT, send, sighting), sighting

    def _in_group(self, account: Account, shown: tuple[str | None, str | None]) -> Sighting | None:
        return Sighting(account.name, None, *shown) if all(shown) else None

    # --- people write ---

    def _write(self, account: Account, circle: Circle, people: list[str]) -> None:
        """One message or, in one callback, several people's, in groups and alone."""
        rng, world = self._rng, self._traffic.world
        many = 1 if rng.random() < 0.8 else rng.randint(2, 4)
        elements: list[Element] = []
        users: list[WhatsAppUser] = []
        for _ in range(many):
            group = self._traffic.group_of(circle, account) if rng.random() < 0.5 else None
            user = world.user(account, rng.choice(people if group is None else group.people))
            if user.id in {other.id for other in users} or user.phone in {other.phone for other in users}:
                continue
            users.append(user)
            elements.append(self._message(account, circle.lines[account.name], user, group))
        received = self._post(account, self._traffic.now, elements)
        for user, element in zip(users, elements, strict=True):
            self._learn(user, element.sighting, received)

    def _learn(self, user: WhatsAppUser, sighting: Sighting | None, received: float) -> None:
        if sighting is not None and sighting.phone == user.phone and sighting.user_id == user.user_id:
            user.known_both = min(user.known_both, received)

    def _message(self, account: Account, line: str, user: WhatsAppUser, group: Group | None) -> Element:
        node, contact, shown = self._named(user, "from", "from_user_id")
        node |= {
            "id": self._wamid(),
            "timestamp": str(int(self._traffic.now)),
            "text": {"body": "Seven"},
            "type": "text",
        }
        if group is None:
            label, sighting = self._in_direct(account, line, user, shown, None)
            return Element("messages", line, node, label, contact=contact, sighting=sighting)
        node["group_id"] = group.id
        sighted = self._in_group(account, shown)
        return Element("messages", group.line, node, group.label, contact=contact, sighting=sighted)

    # --- we write ---

    def _send_direct(self, account: Account, circle: Circle, person: str) -> None:
        rng, traffic, now = self._rng, self._traffic, self._traffic.now
        user, line = traffic.world.user(account, person), circle.lines[account.name]
        message, send = self._wamid(), Send()
        self._register_direct(account, line, user, message, send)
        for word, at in self._fates(now, ("sent", "delivered", "read")):
            node, contact, shown = self._named(user, "recipient_id", "recipient_user_id")
            node |= {"id": message, "status": word, "timestamp": str(int(at))}
            label, sighting = self._in_direct(account, line, user, shown, send)
            element = Element("statuses", line, node, label, contact=contact, sighting=sighting, send=send)
            elements = [element]
            if rng.random() < 0.05:
                group = traffic.group_of(circle, account)
                other = traffic.world.user(account, rng.choice(group.people)) if group is not None else user
                if other.id != user.id and other.phone != user.phone:
                    elements.append(self._message(account, line, other, group))
            self._learn(user, sighting, self._post(account, at, elements))

    def _register_direct(self, account: Account, line: str, user: WhatsAppUser, message: str, send: Send) -> None:
        phone, user_id = self._shown(user)
        if phone and user_id:
            phone, user_id = (phone, None) if self._traffic.now >= user.debut else (None, user_id)
        to = phone[1:] if phone else user_id
        contact = {"input": f"+{to}" if phone else to} | ({"wa_id": to} if phone else {"user_id": to})
        response = {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": message}]}
        label, sighting = self._in_direct(account, line, user, (phone, user_id), send)
        request = {"recipient_type": "individual", "to": to}
        element = Element("", line, request, label, sighting=sighting, send=send)
        self._register(account, response, element)

    def _register(self, account: Account, response: dict[str, Any], asked: Element) -> None:
        """Only the request names our line: a bare response says as much as a pointer."""
        body: dict[str, Any] = response
        label, send = asked.label, asked.send
        sightings: tuple[tuple[Sighting, Send | None], ...] = ()
        sends: tuple[Send, ...] = ()
        if self._rng.random() < 0.85:
            request = {"messaging_product": "whatsapp", "phone_number_id": account.number_ids[asked.line], **asked.node}
            body = {"response": response, "request": request | {"type": "text", "text": {"body": "Seven?"}}}
            sightings = () if asked.sighting is None else ((asked.sighting, send),)
            sends = () if asked.decides is None else (asked.decides,)
        else:
            label = Label(label.truth, NO_REQUEST, send)
        self._traffic.register(account, self._traffic.now, body, [("", label)], sends=sends, sightings=sightings)

    def _send_group(self, account: Account, group: Group) -> None:
        """`sent` for all, then each participant's reports, several in one callback."""
        rng, now = self._rng, self._traffic.now
        message, send = self._wamid(), Send()
        contact = {"input": group.id, "wa_id": group.id}
        response = {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": message}]}
        request = {"recipient_type": "group", "to": group.id}
        self._register(account, response, Element("", group.line, request, group.label, send=send, decides=send))
        sent = self._status(group, message, "sent" if rng.random() < 0.96 else "failed", now, send)
        self._post(account, now + rng.random(), [sent])
        for word, at in self._fates(now, ("delivered", "read")):
            for some in self._parts(group.people):
                users = [self._traffic.world.user(account, person) for person in some]
                elements = [self._status(group, message, word, at, send) for _ in users]
                for user, element in zip(users, elements, strict=True):
                    self._participate(account, user, element)
                received = self._post(account, at, elements)
                for user, element in zip(users, elements, strict=True):
                    self._learn(user, element.sighting, received)

    def _status(self, group: Group, message: str, word: str, at: float, send: Send) -> Element:
        node: dict[str, Any] = {"id": message, "status": word, "timestamp": str(int(at))}
        if self._rng.random() < 0.9:
            node |= {"recipient_id": group.id, "recipient_type": "group"}
        else:
            node["group_id"] = group.id
        return Element("statuses", group.line, node, group.label, decides=send)

    def _participate(self, account: Account, user: WhatsAppUser, element: Element) -> None:
        """Have a report name one participant."""
        named, element.contact, shown = self._named(user, *self._rng.choice(_PARTICIPANT_KEYS))
        element.node |= named
        element.sighting = self._in_group(account, shown)

    def _parts(self, people: list[str]) -> list[list[str]]:
        """All in one, or one by one."""
        some = [person for person in people if self._rng.random() < 0.7]
        return ([some] if some else []) if self._rng.random() < 0.7 else [[person] for person in some]

    def _fates(self, now: float, words: tuple[str, ...]) -> list[tuple[str, float]]:
        rng = self._rng
        times = sorted(now + 0.3 + rng.random() * 90 for _ in words)
        return [(word, at) for word, at in zip(words, times, strict=True) if rng.random() < 0.7]

    # --- groups ---

    def _member(self, account: Account, circle: Circle, group: Group) -> None:
        """Now and then somebody joins or leaves, which callbacks tell; or the group is created, or renamed."""
        rng, now = self._rng, self._traffic.now
        if rng.random() < 0.01:
            self._settings(account, group)
        change = self._traffic.churn(circle, account, group, str)
        if change is None:
            return
        joined, left = change
        user = self._traffic.world.user(account, joined or left)
        node: dict[str, Any] = {"timestamp": str(int(now)), "group_id": group.id}
        shown: tuple[str | None, str | None] = self._shown(user)
        if left and rng.random() < 0.4 and shown[0]:
            shown = (user.phone, None)
            removed = {"input": rng.choice((user.phone, user.phone[1:]))}
            node |= {"request_id": self._wamid(), "initiated_by": "business", "removed_participants": [removed]}
        else:
            entry = {"wa_id": shown[0][1:]} if shown[0] else {}
            entry |= {"user_id": shown[1]} if shown[1] else {}
            told = {"reason": "invite_link"} if joined else {"initiated_by": "participant"}
            node |= told | {"added_participants" if joined else "removed_participants": [entry]}
        what, guide = "add" if joined else "remove", rng.random() < 0.8
        node["type"] = f"group_participants_{what}" if guide else f"group_{what}_participants"
        sighting = self._in_group(account, shown)
        field = "group_participants_update" if guide else "group_participant_update"
        element = Element("groups", group.line, node, group.label, sighting=sighting)
        self._learn(user, sighting, self._post(account, now, [element], field))

    def _settings(self, account: Account, group: Group) -> None:
        now = self._traffic.now
        node: dict[str, Any] = {"timestamp": str(int(now)), "group_id": group.id, "request_id": self._wamid()}
        if self._rng.random() < 0.5:
            node |= {"type": "group_create", "subject": "Hikers", "invite_link": "https://chat.example.com/abc"}
            field = "group_lifecycle_update"
        else:
            node |= {"type": "group_settings_update", "group_subject": {"text": "Hike", "update_successful": True}}
            field = "group_settings_update"
        self._post(account, now, [Element("groups", group.line, node, group.label)], field)

    # --- new numbers, old numbers ---

    def _change_number(self, account: Account, circle: Circle, person: str) -> None:
        """Somebody has a new number, and with it a new user id; their old number may soon be another person's."""
        rng, traffic = self._rng, self._traffic
        user, number = traffic.world.user(account, person), traffic.world.fresh_number()
        if number is None or traffic.now < user.debut:
            return
        self._send_direct(account, circle, person)  # reports on it come late, and name the old number
        old_phone, old_id, known = user.phone, user.user_id, user.known_both < traffic.now
        user.phone, user.user_id = number, f"US.{rng.getrandbits(52):016}"
        user.known_both = float("inf")
        line = circle.lines[account.name]
        if rng.random() < 0.75:
            self._announce(account, line, user, old_phone, old_id)
        if known and rng.random() < 0.6:
            self._recycle(account, circle, old_phone)

    def _announce(self, account: Account, line: str, user: WhatsAppUser, old_phone: str, old_id: str) -> None:
        rng, now = self._rng, self._traffic.now
        truth, number_id = self._direct(account, line, user), account.number_ids[line]
        stamp: dict[str, Any] = {"timestamp": str(int(now))}
        if rng.random() < 0.85:
            system: Any = {"type": "user_changed_number", "wa_id": user.phone[1:], "body": "has a new number"}
            node = stamp | {"from": old_phone[1:], "id": self._wamid(), "type": "system", "system": system}
            sighting = Sighting(account.name, number_id, old_phone, None, ((old_phone, user.phone),))
            label = Label(truth, PHONE_IN_DOUBT, None, sighting)
            self._post(account, now, [Element("messages", line, node, label, sighting=sighting)])
        if user.style != "phone" and rng.random() < 0.85:
            ids = {"previous": old_id, "current": user.user_id}
            update: dict[str, Any] = {**stamp, "wa_id": user.phone[1:], "detail": "has a new id", "user_id": ids}
            sighting = Sighting(account.name, number_id, user.phone, user.user_id, ((old_id, user.user_id),))
            label = Label(truth, PHONE_IN_DOUBT, None, sighting)
            element = Element("user_id_update", line, update, label, sighting=sighting)
            self._learn(user, sighting, self._post(account, now, [element], "user_id_update"))

    def _recycle(self, account: Account, circle: Circle, phone: str) -> None:
        """Another person gets the number; the first callback of theirs to arrive shows whose it is now."""
        world, now = self._traffic.world, self._traffic.now
        place = world.fresh_number()
        if place is None:
            return
        user = world.new_user(phone)
        user.style = self._rng.choice(("open", "shy"))
        world.gets(account, place, user)
        circle.people.append(place)
        line = circle.lines[account.name]
        node: dict[str, Any] = {"from": phone[1:], "from_user_id": user.user_id, "id": self._wamid()}
        node |= {"timestamp": str(int(now)), "type": "text", "text": {"body": "Hello, I am new here"}}
        label, sighting = self._in_direct(account, line, user, (phone, user.user_id), None)
        element = Element("messages", line, node, label, sighting=sighting)
        user.debut = user.known_both = self._post(account, now, [element])

    # --- parts ---

    def _post(self, account: Account, at: float, elements: list[Element], field: str = "messages") -> float:
        """Elements in one callback: a change for each of our lines, in one entry or several."""
        changes: list[dict[str, Any]] = []
        labels: list[Named] = []
        in_order: list[Element] = []
        for line in dict.fromkeys(element.line for element in elements):
            mine = [element for element in elements if element.line == line]
            mine.sort(key=lambda element: _ARRAYS.index(element.array))
            in_order += mine
            changes.append({"field": field, "value": self._value(account, line, mine)})
        labels = [(element.node.get("id", ""), element.label) for element in in_order]
        several = len(changes) > 1 and self._rng.random() < 0.5
        entries = [[change] for change in changes] if several else [changes]
        return self._traffic.post(
            account,
            at,
            {
                "object": "whatsapp_business_account",
                "entry": [{"id": _WABA, "changes": some} for some in entries],
            },
            labels,
            sends=tuple(element.decides for element in in_order if element.decides is not None),
            sightings=tuple((element.sighting, element.send) for element in in_order if element.sighting is not None),
        )

    def _value(self, account: Account, line: str, elements: list[Element]) -> dict[str, Any]:
        display = line[1:] if self._rng.random() < 0.8 else self._traffic.spell(line)
        metadata = {"display_phone_number": display, "phone_number_id": account.number_ids[line]}
        value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": metadata}
        contacts = [element.contact for element in elements if element.contact is not None]
        if contacts:
            self._rng.shuffle(contacts)
            value["contacts"] = contacts
        for element in elements:
            value.setdefault(element.array, []).append(element.node)
        return value

    def _wamid(self) -> str:
        return f"wamid.{self._rng.getrandbits(128):032X}"
