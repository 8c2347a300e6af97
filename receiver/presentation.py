"""What events say, as a person reads it; and as a line for files and pipes. Pure.

It shows texts and addresses to whoever may read the stream anyway, so it never goes into a log. `screen` lays the same
out for a terminal.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from schemas.clock import format_time
from schemas.events import (
    AccountNotice,
    ConversationMembers,
    ConversationMerged,
    ConversationSettings,
    Members,
    Message,
    MessageEdited,
    MessageOutbound,
    MessageReaction,
    MessageReceived,
    MessageRevoked,
    MessageStatus,
    Settings,
    StatusError,
    Typing,
    Unrecognised,
)
from schemas.reader import Published, Unknown

#: Who it is where a person did something and nobody says which one.
_SOMEBODY = "somebody"
#: Keeps emoji of several parts together, and is not printable by itself.
_JOINER = "\u200d"

_SETTINGS = {
    "created": "the group was created",
    "deleted": "the group was deleted",
    "suspended": "the group was suspended",
    "resumed": "the group is back from its suspension",
    "create_requested": "a group was asked for",
}
#: The same, as what could not be done.
_UNDONE = {
    "created": "the group could not be created",
    "deleted": "the group could not be deleted",
    "suspended": "the group could not be suspended",
    "resumed": "the group's suspension could not be lifted",
    "changed": "the group could not be changed",
}


class Said(NamedTuple):
    """What an event says. Nothing in it moves a terminal's cursor."""

    #: The person whom it is of or about; empty where it is about the conversation or the account.
    who: str
    #: In our words.
    sentence: str = ""
    #: In the words of a person, which may be long.
    quote: str = ""
    #: In our words again, after that.
    more: str = ""

    @property
    def what(self) -> str:
        """All of it but who, on one line."""
        return " ".join(part for part in (self.sentence, self.quote and f"“{self.quote}”", self.more) if part)


def line(event: Published) -> str:
    """One event on one line, with nothing left out: time, provider, type, conversation key, kind, who, what."""
    said = say(event)
    columns = (
        format_time(event.time),
        f"{plain(event.provider.name):<8}",
        f"{plain(event.type):<21}",
        plain(event.subject),
        f"{kind(event):<8}",
        f"{said.who:<12}",
        said.what,
    )
    return "  ".join(columns).rstrip()


def kind(event: Published) -> str:
    """Of which kind its conversation is, with how many people in a group; `?` while a better word may move it."""
    conversation = event.conversation
    if conversation is None:
        return "account"
    people = conversation.participants
    counted = f"/{len(people)}" if conversation.kind == "group" and people else ""
    return plain(f"{conversation.kind}{counted}{'?' * conversation.provisional}")


def say(event: Published, most: int | None = None) -> Said:
    """What an event says. `most`: how many keys or people are named before the rest is counted; None: all."""
    says = _SAYINGS.get(type(event.body), _unknown)
    said = says(event, most)
    return Said(*map(plain, said._replace(more=_joined([said.more, *_asides(event)]))))


def plain(text: str) -> str:
    """A text with nothing in it that a terminal would obey, whoever wrote it; joined emoji stay joined."""
    return "".join(character if character.isprintable() or character == _JOINER else " " for character in text)


def plain_json(text: str) -> str:
    """JSON with the same values and nothing in it that a terminal would obey: that is written as escapes."""
    return "".join(
        character if character.isprintable() or character == _JOINER else _escaped(character) for character in text
    )


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _asides(event: Published) -> Sequence[str]:
    """What is worth knowing of an event of any type."""
    return ["(copy)"] * (event.copy_of is not None) + ["(replayed)"] * event.replayed


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


# --- messages ---------------------------------------------------------------------------------------------


def _message(event: Published, _: int | None) -> Said:
    message: Message = event.body.message  # type: ignore[union-attr]  # by the table below
    attachments = len(message.media)
    more = f"[{_count(attachments, 'attachment')}]" if attachments else ""
    empty = "" if message.text or attachments else f"[{message.type or 'empty'}]"
    return Said(message.sender or _SOMEBODY, quote=message.text or "", more=more or empty)


def _edited(event: Published, _: int | None) -> Said:
    said = _message(event, None)
    return said._replace(sentence="edited a message:")


def _revoked(event: Published, _: int | None) -> Said:
    message: Message = event.body.message  # type: ignore[union-attr]  # by the table below
    return Said(message.sender or _SOMEBODY, "took a message back")


def _status(event: Published, _: int | None) -> Said:
    assert isinstance(event.body, MessageStatus)  # noqa: S101 - by the table below
    status = event.body.status
    why = _why(status.error)
    return Said(status.recipient or "everybody", status.value + why, more="(known already)" if status.stale else "")


def _reaction(event: Published, _: int | None) -> Said:
    assert isinstance(event.body, MessageReaction)  # noqa: S101 - by the table below
    reaction = event.body.reaction
    did = f"reacted {reaction.emoji}" if reaction.emoji else "took a reaction back"
    return Said(event.body.message.sender or _SOMEBODY, did, reaction.quoted or "")


def _typing(event: Published, _: int | None) -> Said:
    assert isinstance(event.body, Typing)  # noqa: S101 - by the table below
    typing = event.body.typing
    return Said(typing.sender or _SOMEBODY, "is typing" if typing.is_typing else "stopped typing")


def _why(error: StatusError | None) -> str:
    said = ": ".join(word for word in (error.code, error.detail) if word) if error else ""
    return f" ({said})" if said else ""


# --- conversations ----------------------------------------------------------------------------------------


def _merged(event: Published, most: int | None) -> Said:
    assert isinstance(event.body, ConversationMerged)  # noqa: S101 - by the table below
    keys = event.body.merged
    if not keys:
        return Said("", "this conversation stands for itself alone again")
    return Said("", f"{_listed(keys, most)} {'is' if len(keys) == 1 else 'are'} now this conversation")


def _members(event: Published, most: int | None) -> Said:
    assert isinstance(event.body, ConversationMembers)  # noqa: S101 - by the table below
    members = event.body.members
    changes = [
        f"{_listed(people, most)} {did}"
        for people, did in (
            (members.added, "joined"),
            (members.removed, "left"),
            (members.requested, "asked to join"),
            (members.withdrawn, "took back asking to join"),
        )
        if people
    ]
    changes += [f"{failed.address} could not be changed{_why(failed.error)}" for failed in members.failed]
    if not changes:
        changes = ["nothing new: it came late, or was known" if members.stale else "nobody joined or left"]
    return Said("", "; ".join([*changes, *_after(members)]) + _how(members) + _why(members.error))


def _after(members: Members) -> Sequence[str]:
    return [f"now {_count(len(members.after), 'person', 'people')}"] if members.after else []


def _how(members: Members) -> str:
    """The provider's words for how and by whom, or that there are none."""
    if members.inferred:
        return " (concluded, not told)"
    said = [
        *([members.reason] if members.reason else []),
        *([f"by {members.initiated_by}"] * bool(members.initiated_by)),
    ]
    return f" ({', '.join(said).replace('_', ' ')})" if said else ""


def _settings(event: Published, _: int | None) -> Said:
    assert isinstance(event.body, ConversationSettings)  # noqa: S101 - by the table below
    settings = event.body.settings
    parts = [*_change(settings), *_news(settings)]
    parts += [f"its {key.replace('_', ' ')} could not be changed{_why(why)}" for key, why in settings.failed.items()]
    return Said("", ("; ".join(parts) or "the group was changed") + _why(settings.error))


def _change(settings: Settings) -> Sequence[str]:
    change = settings.change
    if change in _SETTINGS:
        return [_SETTINGS[change]]
    if not change.endswith("_failed"):
        return [] if change == "changed" else [f"the group: {change}"]
    if settings.failed:  # each of which says so
        return []
    undone = change.removesuffix("_failed")
    return [_UNDONE.get(undone, f"the group: {undone} failed")]


def _news(settings: Settings) -> Sequence[str]:
    if settings.change.endswith("_failed"):  # then it is what was asked for
        return []
    told = {
        f"its name is “{settings.subject}”": settings.subject,
        f"its description is “{settings.description}”": settings.description,
        "it has a new picture": settings.picture,
        "it has a new invite link": settings.invite_link,
        f"joining it: {(settings.join_approval or '').replace('_', ' ')}": settings.join_approval,
    }
    return [sentence for sentence, value in told.items() if value]


# --- everything else --------------------------------------------------------------------------------------


def _notice(event: Published, _: int | None) -> Said:
    assert isinstance(event.body, AccountNotice)  # noqa: S101 - by the table below
    return Said("", event.body.notice.kind)


def _unrecognised(event: Published, _: int | None) -> Said:
    return Said("", f"{event.provider.name} sent “{event.provider.type}”, a type that this version does not know")


def _unknown(_event: Published, _: int | None) -> Said:
    return Said("", "a later version published this, and this one cannot read it: see it with --json")


def _listed(names: Sequence[str], most: int | None) -> str:
    """`a, b and c`, or `a, b and 7 more`."""
    if most is not None and len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


_SAYINGS: dict[type[Any], Callable[[Published, int | None], Said]] = {
    MessageReceived: _message,
    MessageOutbound: _message,
    MessageStatus: _status,
    MessageReaction: _reaction,
    MessageEdited: _edited,
    MessageRevoked: _revoked,
    ConversationMembers: _members,
    ConversationSettings: _settings,
    ConversationMerged: _merged,
    Typing: _typing,
    AccountNotice: _notice,
    Unrecognised: _unrecognised,
    Unknown: _unknown,
}
