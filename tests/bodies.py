"""Callback bodies of the four providers, written by hand after what each of them sends.

Every body is a message of its own, from Ann to our line, unless its arguments say otherwise. What a provider may leave
out is left out where an argument is None.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Any, NamedTuple

from schemas.address import Address
from schemas.clock import format_time
from tests.engine import ANN, LINE, NOW

WABA, NUMBER_ID = "800100200300401", "700100200300400"

_numbers = count(1)


class Posted(NamedTuple):
    """What a provider posts."""

    provider: str
    body: Any


def _new(word: str) -> str:
    return f"{word}-{next(_numbers)}"


def _time(after: float) -> str:
    return format_time(NOW + timedelta(seconds=after))


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


# --- Telnyx -----------------------------------------------------------------------------------------------


def party(number: str) -> dict[str, str]:
    """An entry of `cc` as the schema has it; the guide has bare texts."""
    return {"phone_number": number, "carrier": "", "line_type": "Wireless"}


def telnyx_received(
    *,
    sender: str = ANN,
    to: Sequence[str] = (LINE,),
    cc: Sequence[str | dict[str, str]] | None = None,
    kind: str = "MMS",
    message: str | None = None,
    fact: str | None = None,
    attempt: int = 1,
    after: float = 0,
) -> Posted:
    """`message.received`: `cc` is everybody else in a group; there is no id of the group."""
    payload = _told({
        "id": message or _new("telnyx-message"),
        "direction": "inbound",
        "type": kind,
        "from": party(sender),
        "to": [party(line) for line in to],
        "cc": None if cc is None else list(cc),
        "text": "Seven it is",
    })  # fmt: skip
    return _telnyx("message.received", payload, fact, attempt, after)


def telnyx_report(
    *,
    to: Sequence[str] = (ANN,),
    sender: str = LINE,
    cc: Sequence[str | dict[str, str]] | None = None,
    group_message_id: str | None = None,
    kind: str = "MMS",
    message: str | None = None,
    after: float = 0,
) -> Posted:
    """`message.finalized`: of one recipient or of all, with or without the id of the group message."""
    payload = _told({
        "id": message or _new("telnyx-message"),
        "group_message_id": group_message_id,
        "direction": "outbound",
        "type": kind,
        "from": party(sender),
        "to": [{**party(number), "status": "delivered"} for number in to],
        "cc": None if cc is None else list(cc),
        "text": "Seven it is",
    })  # fmt: skip
    return _telnyx("message.finalized", payload, None, 1, after)


def telnyx_sent(*, to: Sequence[str], sender: str = LINE, group_message_id: str) -> Posted:
    """The answer to a send to a group."""
    record = {"record_type": "message", "direction": "outbound", "type": "MMS", "group_message_id": group_message_id}
    numbers = [{"phone_number": number, "status": "queued"} for number in to]
    return Posted("telnyx", {"data": {**record, "id": _new("telnyx-sent"), "from": sender, "to": numbers}})


def _telnyx(event_type: str, payload: dict[str, Any], fact: str | None, attempt: int, after: float) -> Posted:
    data = {
        "record_type": "event",
        "event_type": event_type,
        "id": fact or _new("telnyx-fact"),
        "occurred_at": _time(after),
        "payload": payload,
    }
    return Posted("telnyx", {"data": data, "meta": {"attempt": attempt, "delivered_to": "https://example.com/hook"}})


# --- Sendblue ---------------------------------------------------------------------------------------------


def sendblue_received(
    *,
    sender: str = ANN,
    line: str = LINE,
    participants: Sequence[str] | None = (),
    group_id: str | None = "",
    name: str | None = None,
    message_type: str | None = "message",
    service: str = "iMessage",
    handle: str | None = None,
    after: float = 0,
) -> Posted:
    """`receive`: a 1:1 has an empty group id, and lists nobody, the contact, or the contact and our line."""
    return _sendblue({
        "is_outbound": False,
        "status": "RECEIVED",
        "message_handle": handle or _new("HANDLE"),
        "date_sent": _time(after),
        "from_number": sender,
        "number": sender,
        "to_number": line,
        "sendblue_number": line,
        "message_type": message_type,
        "group_id": group_id,
        "group_display_name": name,
        "participants": None if participants is None else list(participants),
        "service": service,
    })  # fmt: skip


def sendblue_report(
    *,
    to: str | Sequence[str] = ANN,
    line: str = LINE,
    participants: Sequence[str] | None = None,
    group_id: str | None = "",
    message_type: str | None = "message",
    service: str = "iMessage",
    status: str = "DELIVERED",
    handle: str | None = None,
    after: float = 0,
) -> Posted:
    """`outbound`: a status of a message of ours; those on a group may name an array."""
    recipient = to if isinstance(to, str) else list(to)
    return _sendblue({
        "is_outbound": True,
        "status": status,
        "message_handle": handle or _new("handle"),
        "date_sent": _time(after),
        "date_updated": _time(after + 1),
        "from_number": line,
        "number": recipient,
        "to_number": recipient,
        "message_type": message_type,
        "group_id": group_id,
        "participants": None if participants is None else list(participants),
        "service": service,
    })  # fmt: skip


def _sendblue(fields: dict[str, Any]) -> Posted:
    return Posted("sendblue", {"accountEmail": "rowing", "content": "Seven it is", "media_url": "", **_told(fields)})


# --- Sinch ------------------------------------------------------------------------------------------------


def sinch_received(*, sender: str = ANN, line: str = LINE, after: float = 0) -> Posted:
    """`mo_text`: numbers come with and without a plus sign."""
    body = {"type": "mo_text", "id": _new("01SINCH"), "from": sender, "to": line, "body": "Seven it is"}
    return Posted("sinch", {**body, "received_at": _time(after)})


def sinch_sent(*, to: Sequence[str] = (ANN,), line: str | None = LINE, batch: str, after: float = 0) -> Posted:
    """The answer to a send: what was asked for, with the batch's id; of a pool of originators it names none."""
    body = _told({"id": batch, "to": list(to), "from": line, "type": "mt_text", "body": "Seven?"})
    return Posted("sinch", {**body, "created_at": _time(after)})


def sinch_report(
    *, to: str = ANN, line: str | None = LINE, batch: str | None = None, status: str = "Delivered", after: float = 0
) -> Posted:
    """`recipient_delivery_report_sms`: a batch and a recipient; `line` only with a pool of originators."""
    body = _told({
        "type": "recipient_delivery_report_sms",
        "batch_id": batch or _new("01BATCH"),
        "recipient": to,
        "applied_originator": line,
        "code": 0,
        "status": status,
        "at": _time(after),
    })  # fmt: skip
    return Posted("sinch", body)


# --- WhatsApp ---------------------------------------------------------------------------------------------


def whatsapp_received(
    *,
    sender: str | None = ANN,
    user_id: str | None = None,
    group_id: str | None = None,
    number_id: str = NUMBER_ID,
    after: float = 0,
) -> Posted:
    """`messages`: a group's message differs from a 1:1 by its `group_id` only; `user_id` is business-scoped."""
    message = _told({
        "from": None if sender is None else _wa_id(sender),
        "from_user_id": user_id,
        "group_id": group_id,
        "id": _new("wamid.IN"),
        "timestamp": _seconds(after),
        "type": "text",
        "text": {"body": "Seven it is"},
    })  # fmt: skip
    return _whatsapp("messages", {"messages": [message]}, number_id)


def whatsapp_report(
    who: Mapping[str, str] | None = None, *, message: str | None = None, status: str = "delivered", after: float = 0
) -> Posted:
    """`statuses`: `who` names recipient, group and participant, under one of the spellings that pages give."""
    told = {key: _wa_id(value) for key, value in (who or {"recipient_id": ANN}).items()}
    body = {"id": message or _new("wamid.OUT"), "status": status, "timestamp": _seconds(after), **told}
    return _whatsapp("messages", {"statuses": [body]})


def whatsapp_echo(*, to: str = ANN, after: float = 0, **more: str) -> Posted:
    """`message_echoes`: a message of ours that was sent elsewhere."""
    message = {"from": _wa_id(LINE), "to": _wa_id(to), "id": _new("wamid.ECHO"), "timestamp": _seconds(after)}
    return _whatsapp(
        "message_echoes", {"message_echoes": [{**message, "type": "text", "text": {"body": "Seven it is"}, **more}]}
    )


def whatsapp_joined(*who: str, group_id: str, after: float = 0) -> Posted:
    """`group_participants_update`: people joined by the link."""
    group = {
        "type": "group_participants_add",
        "group_id": group_id,
        "timestamp": _seconds(after),
        "reason": "invite_link",
        "added_participants": [{"wa_id": _wa_id(person)} for person in who],
    }
    return _whatsapp("group_participants_update", {"groups": [group]})


def _whatsapp(field: str, arrays: dict[str, Any], number_id: str = NUMBER_ID) -> Posted:
    metadata = {"display_phone_number": "+1 555 555 0100", "phone_number_id": number_id}
    change = {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **arrays}}
    return Posted("whatsapp", {"object": "whatsapp_business_account", "entry": [{"id": WABA, "changes": [change]}]})


def _wa_id(text: str) -> str:
    return text.removeprefix("+")


def _seconds(after: float) -> str:
    return str(int((NOW + timedelta(seconds=after)).timestamp()))


# --- what providers share ---------------------------------------------------------------------------------


_RECEIVED: dict[str, Callable[..., Posted]] = {
    "telnyx": telnyx_received,
    "sendblue": sendblue_received,
    "sinch": sinch_received,
    "whatsapp": whatsapp_received,
}


def private(provider: str, sender: Address = ANN) -> Posted:
    """Somebody writes to our line alone."""
    return _RECEIVED[provider](sender=sender)


def answered(provider: str, contact: Address = ANN) -> Posted:
    """A report on a message of ours to somebody alone."""
    if provider == "whatsapp":
        return whatsapp_report({"recipient_id": contact})
    if provider == "telnyx":
        return telnyx_report(to=(contact,))
    return sendblue_report(to=contact) if provider == "sendblue" else sinch_report(to=contact)


def in_group(provider: str, other: Address, sender: Address = ANN) -> Posted:
    """Somebody writes to the group of Ann, another one and our line."""
    if provider == "telnyx":
        return telnyx_received(sender=sender, cc=[ANN, other, LINE])
    if provider == "sendblue":
        listed = (ANN, other, LINE)
        return sendblue_received(sender=sender, message_type="group", group_id=f"sb_group_{other}", participants=listed)
    return whatsapp_received(sender=sender, group_id=f"Y2FwaV9{other}")
