"""Events as a person reads them: one line each. Pure.

The line is for whoever may read the stream anyway; it shows texts and addresses, so it never goes into a log.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TEXT_WIDTH = 60
_KEY_WIDTH = 12
_JOINER = "\u200d"

Envelope = Mapping[str, Any]


def line(event: Envelope) -> str:
    """Time, provider, type, conversation key (shortened), who, what."""
    data = event["data"]
    who, what = _who_and_what(event["type"], data)
    columns = (
        event["time"][11:19] + " ",
        f"{data['provider']['name']:<9}",
        f"{event['type']:<21}",
        f"{event['subject'][:_KEY_WIDTH]}…",
        f"{_kind(data['conversation']):<8}",
        f"{who:<16}",
        what,
    )
    return _plain(" ".join(columns)).rstrip()


def _kind(conversation: Mapping[str, Any] | None) -> str:
    if conversation is None:
        return "account"
    people = conversation["participants"]
    if conversation["kind"] == "group" and people:
        return f"group/{len(people)}"
    return str(conversation["kind"])


def _who_and_what(event_type: str, data: Mapping[str, Any]) -> tuple[str, str]:
    return _SAYINGS.get(event_type, _message)(data)


def _message(data: Mapping[str, Any]) -> tuple[str, str]:
    message = data["message"]
    parts = [_quoted(message["text"])] if message["text"] else []
    if message["media"]:
        parts.append(f"[{len(message['media'])} attachment(s)]")
    return _sender(data), " ".join(parts) or f"[{message.get('type', 'empty')}]"


def _sender(data: Mapping[str, Any]) -> str:
    return data["message"]["sender"] or ""


def _status(data: Mapping[str, Any]) -> tuple[str, str]:
    status = data["status"]
    error = status["error"] or {}
    why = ": ".join(word for word in (error.get("code"), error.get("detail")) if word)
    return status["recipient"] or "everybody", f"{status['value']} ({why})" if why else status["value"]


def _reaction(data: Mapping[str, Any]) -> tuple[str, str]:
    reaction = data["reaction"]
    said = f"reacted {reaction['emoji']}" if reaction["emoji"] else "took a reaction back"
    return _sender(data), f"{said} {_quoted(reaction['quoted'])}"


def _typing(data: Mapping[str, Any]) -> tuple[str, str]:
    return data["typing"]["sender"] or "", "is typing" if data["typing"]["is_typing"] else "stopped typing"


def _members(data: Mapping[str, Any]) -> tuple[str, str]:
    members = data["members"]
    parts = [
        f"{', '.join(members[key])} {verb}"
        for key, verb in (
            ("added", "joined"),
            ("removed", "left"),
            ("requested", "asked to join"),
            ("withdrawn", "no longer asks to join"),
        )
        if members.get(key)
    ]
    if members.get("failed"):
        parts.append(f"{len(members['failed'])} could not be changed")
    return "", "; ".join(parts) or "nobody changed"


def _settings(data: Mapping[str, Any]) -> tuple[str, str]:
    settings = data["settings"]
    named = [f"{key} {_quoted(settings[key])}" for key in ("subject", "description") if settings.get(key)]
    failed: Sequence[str] = sorted(settings.get("failed", {}))
    return "", "; ".join([settings["change"].replace("_", " "), *named, *(f"{key} failed" for key in failed)])


def _quoted(text: str | None) -> str:
    """A text on one line, shortened."""
    if not text:
        return ""
    plain = _plain(text)
    return f"“{plain[: _TEXT_WIDTH - 1]}…”" if len(plain) > _TEXT_WIDTH else f"“{plain}”"


def _plain(text: str) -> str:
    """A text with nothing in it that a terminal would obey, whoever wrote it; joined emoji stay joined."""
    return "".join(character if character.isprintable() or character == _JOINER else " " for character in text)


#: What each type of event says, besides messages themselves.
_SAYINGS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "message.status": _status,
    "message.reaction": _reaction,
    "message.revoked": lambda data: (_sender(data), "took a message back"),
    "conversation.members": _members,
    "conversation.settings": _settings,
    "conversation.merged": lambda data: ("", f"now also {len(data['merged'])} earlier key(s)"),
    "typing": _typing,
    "account.notice": lambda data: ("", str(data["notice"]["kind"])),
    "unrecognised": lambda data: ("", f"type {data['provider']['type']} is not known to this version"),
}
