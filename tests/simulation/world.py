"""People, our lines, and the circles of people whose groups and 1:1s overlap; all from one random generator."""

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

from schemas.callback import AccountFacts
from tests.simulation.truth import Label

_AREAS: Final = range(200, 1000)
_LAST: Final = 100
NUMBERS: Final = len(_AREAS) * _LAST
#: So many callbacks to one circle of people, and no more circles than the fictional numbers give people to.
_CALLBACKS_A_CIRCLE: Final = 300
_MOST_CIRCLES: Final = 8000
_FEWEST_CIRCLES: Final = 6
_SMALLEST, _LARGEST = 2, 7
_EMAIL: Final = 0.12
_AGAIN: Final = 0.15
_OTHER_LINE: Final = 0.03
_SHORT_CODE: Final = "40404"


def number(index: int) -> str:
    """One of the fictional numbers: exchange 555, last four digits 0100 to 0199."""
    return f"+1{_AREAS[index // _LAST]}5550{_LAST + index % _LAST}"


class Account:
    """One account at a provider, with its lines; `facts` are the settings that its captures carry."""

    __slots__ = ("facts", "lines", "name", "number_ids", "provider")

    def __init__(self, provider: str, name: str, lines: list[str], facts: AccountFacts) -> None:
        self.provider, self.name, self.lines, self.facts = provider, name, lines, facts
        #: WhatsApp: what stands for each line in identities.
        self.number_ids = {line: f"555{index:012}" for index, line in enumerate(lines, 1)}


class WhatsAppUser:
    """A person as one WhatsApp account sees them."""

    __slots__ = ("debut", "id", "known_both", "phone", "style", "user_id")

    def __init__(self, identifier: str, phone: str, user_id: str, style: str) -> None:
        self.id, self.phone, self.user_id, self.style = identifier, phone, user_id, style
        #: Until then the phone is not shown alone: it was another person's before.
        self.debut = 0.0
        #: When a callback that shows phone and user id is first delivered.
        self.known_both = float("inf")


class Group:
    """A group on one account. Telnyx and groups without an id are their set; the others keep their id."""

    __slots__ = ("account", "id", "label", "line", "lines", "people")

    def __init__(self, account: Account, lines: tuple[str, ...], people: list[str], group_id: str) -> None:
        self.account, self.lines, self.people, self.id = account, lines, people, group_id
        self.label: Label
        self.line = lines[0]


class Circle:
    """People who know each other, a line of ours on each account that they write to, and their groups there."""

    __slots__ = ("groups", "lines", "people")

    def __init__(self, people: list[str], lines: dict[str, str]) -> None:
        self.people, self.lines = people, lines
        #: By the account's name; several on each, on purpose nearly the same.
        self.groups: dict[str, list[Group]] = {}


class World:
    """Everybody, and what changes over time."""

    def __init__(self, rng: Random, callbacks: int, *, user_ids: bool) -> None:
        self.rng = rng
        self.user_ids = user_ids
        self._numbers: Iterator[str] = map(number, rng.sample(range(NUMBERS), NUMBERS))
        self._count = count(1)
        self._labels: dict[tuple[str, ...], Label] = {}
        self._users: dict[tuple[str, str], WhatsAppUser] = {}
        self.emails: dict[str, str] = {}
        self.accounts = self._open_accounts()
        circles = min(_MOST_CIRCLES, max(_FEWEST_CIRCLES, callbacks // _CALLBACKS_A_CIRCLE))
        self._everybody: list[str] = []
        self.circles = [self._circle() for _ in range(circles)]

    def _open_accounts(self) -> list[Account]:
        def lines(many: int) -> list[str]:
            return [next(self._numbers) for _ in range(many)]

        telnyx, strict, blue, free = lines(3), lines(2), lines(3), lines(2)
        sinch, default, first, second = [*lines(2), _SHORT_CODE], lines(3), lines(2), lines(1)
        return [
            Account("telnyx", "telnyx-main", telnyx, _own(telnyx[:2])),  # one line is not in the settings
            Account("telnyx", "telnyx-strict", strict, AccountFacts(lines=tuple(strict), strict_groups=True)),
            Account("sendblue", "sendblue-main", blue, _own(blue)),
            Account("sendblue", "sendblue-free", free, _own([])),
            Account("sinch", "sinch-main", sinch, _own(sinch[:2])),
            Account("sinch", "sinch-default", default, AccountFacts(default_line=default[0])),
            Account("whatsapp", "whatsapp-main", first, _own(first)),
            Account("whatsapp", "whatsapp-second", second, _own([])),
        ]

    # --- people ---

    def stranger(self) -> str:
        """Somebody who was in no circle yet, as long as there are any; at times one of them has an e-mail address."""
        person = next(self._numbers, None)
        if person is None:
            return self.rng.choice(self._everybody)
        self._everybody.append(person)
        if self.rng.random() < _EMAIL:
            self.emails[person] = f"person{len(self._everybody)}@example.com"
        return person

    def _circle(self) -> Circle:
        rng = self.rng
        people = {
            rng.choice(self._everybody) if self._everybody and rng.random() < _AGAIN else self.stranger()
            for _ in range(rng.randint(_SMALLEST, _LARGEST))
        }
        if rng.random() < _OTHER_LINE:  # one account's line is just a person to another account
            people.add(rng.choice(rng.choice(self.accounts[:4]).lines))
        while len(people) < _SMALLEST:
            people.add(self.stranger())
        lines = {account.name: rng.choice(account.lines) for account in self.accounts}
        circle = Circle(sorted(people), lines)
        for account in self.accounts:
            circle.groups[account.name] = self._groups(circle, account)
        return circle

    def handle(self, person: str) -> str:
        """How Sendblue knows somebody: some have only their e-mail address there."""
        return self.emails.get(person, person)

    def user(self, account: Account, person: str) -> WhatsAppUser:
        """Who has that phone on WhatsApp now, as that account sees them."""
        user = self._users.get((account.name, person))
        if user is None:
            user = self._users[account.name, person] = self.new_user(person)
        return user

    def new_user(self, phone: str) -> WhatsAppUser:
        """Somebody whom no account has seen yet."""
        rng = self.rng
        style = rng.choices(("phone", "open", "shy", "apart"), (40, 30, 26, 4))[0] if self.user_ids else "phone"
        return WhatsAppUser(f"user {next(self._count)}", phone, f"US.{rng.getrandbits(52):016}", style)

    def fresh_number(self) -> str | None:
        """A number that nobody ever had; None: they are used up."""
        return next(self._numbers, None)

    def gets(self, account: Account, person: str, user: WhatsAppUser) -> None:
        """Somebody's account of WhatsApp, with a phone that was another's there."""
        self._users[account.name, person] = user

    def people_of(self, account: Account, circle: Circle) -> list[str]:
        """The circle as an account's own people: its own lines are nobody to it."""
        people = [person for person in circle.people if person not in account.lines]
        return [self.handle(person) for person in people] if account.provider == "sendblue" else people

    # --- groups ---

    def _groups(self, circle: Circle, account: Account) -> list[Group]:
        """Of everybody; of everybody but one; and at times with a second line of ours in it."""
        people = self.people_of(account, circle)
        if account.provider == "sinch" or len(people) < _SMALLEST:
            return []
        line = circle.lines[account.name]
        groups = [self.group(account, (line,), people)]
        if len(people) > _SMALLEST:
            groups.append(self.group(account, (line,), people[1:]))
        others = [other for other in account.lines if other != line]
        if others and account.provider != "whatsapp":
            groups.append(self.group(account, (line, self.rng.choice(others)), people))
        elif others and self.rng.random() < 0.1:  # an id is only unique under its number
            twin = self.group(account, (others[0],), people)
            twin.id = groups[0].id
            groups.append(self._labelled(twin))
        return groups

    def group(self, account: Account, lines: tuple[str, ...], people: list[str]) -> Group:
        """A group with a new id."""
        return self._labelled(Group(account, lines, list(people), f"group-{next(self._count)}"))

    def _labelled(self, group: Group) -> Group:
        account = group.account
        if account.provider == "telnyx" or account.name == "sendblue-free":
            group.label = self.label(account.name, "set", *sorted({*group.people, *group.lines}))
        else:
            unique_under = group.line if account.provider == "whatsapp" else ""
            group.label = self.label(account.name, "group", unique_under, group.id)
        return group

    def change(self, group: Group, joins: str | None, leaves: str | None) -> None:
        """Somebody joins, somebody leaves: the same group where it has an id, another one where it is its set."""
        group.people = [person for person in group.people if person != leaves]
        if joins is not None:
            group.people.append(joins)
        self._labelled(group)

    # --- truth ---

    def label(self, *truth: str) -> Label:
        """The one label of what a fact's own evidence determines."""
        label = self._labels.get(truth)
        if label is None:
            label = self._labels[truth] = Label(truth)
        return label

    def direct(self, account: Account, line: str, person: str) -> Label:
        """The label of a 1:1. At Telnyx it is the set of two."""
        if account.provider == "telnyx":
            return self.label(account.name, "set", *sorted((line, person)))
        return self.label(account.name, "direct", line, person)


def _own(lines: list[str]) -> AccountFacts:
    return AccountFacts(lines=tuple(lines))
