"""A small conversation from each provider, as it would send it: for trying out, and for checking a set-up. Pure.

Every number is fictional. `tag` makes the ids of one run its own, so that a second run is no duplicate.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from schemas.clock import format_time

_LINE = "+15555550100"
_ANA, _BEN, _CAM = "+15555550111", "+15555550122", "+15555550133"

Bodies = list[bytes]


def telnyx(now: datetime, tag: str) -> Bodies:
    """Ana writes to the group, Ben answers (with the members spelled otherwise), our reply reaches both."""

    def event(number: int, event_type: str, payload: Mapping[str, Any]) -> bytes:
        at = format_time(now - timedelta(seconds=10 - number))
        data = {"record_type": "event", "event_type": event_type, "id": f"{tag}-telnyx-{number}", "occurred_at": at}
        return _json({"data": {**data, "payload": payload}, "meta": {"attempt": 1}})

    def received(number: int, sender: str, others: list[Any], text: str) -> bytes:
        payload = {
            "direction": "inbound",
            "type": "MMS",
            "id": f"{tag}-telnyx-message-{number}",
            "from": {"phone_number": sender},
            "to": [{"phone_number": _LINE}],
            "cc": others,
            "text": text,
            "media": [],
        }
        return event(number, "message.received", payload)

    def finalized(number: int, recipient: str, status: str) -> bytes:
        payload = {
            "direction": "outbound",
            "type": "MMS",
            "id": f"{tag}-telnyx-sent",
            "from": {"phone_number": _LINE},
            "to": [{"phone_number": recipient, "status": status}],
            "cc": [{"phone_number": number} for number in (_ANA, _BEN)],
            "text": "See you there!",
        }
        return event(number, "message.finalized", payload)

    return [
        received(1, _ANA, [_BEN, _LINE], "Lunch on Friday?"),
        received(2, _BEN, [{"phone_number": "1 (555) 555-0111"}], "Friday works, noon?"),
        finalized(3, _ANA, "delivered"),
        finalized(4, _BEN, "delivery_unconfirmed"),
    ]


def sendblue(now: datetime, tag: str) -> Bodies:
    """Two people in an iMessage group, a tapback, and a report on our answer."""

    def body(number: int, **more: Any) -> bytes:
        at = format_time(now - timedelta(seconds=10 - number))
        return _json(
            {
                "is_outbound": False,
                "status": "RECEIVED",
                "message_handle": f"{tag}-SENDBLUE-{number}",
                "date_sent": at,
                "date_updated": at,
                "to_number": _LINE,
                "sendblue_number": _LINE,
                "message_type": "group",
                "group_id": f"sb_group_{tag}",
                "group_display_name": "Climbing",
                "participants": [_ANA, _CAM, _LINE],
                "service": "iMessage",
                "media_url": "",
                **more,
            }
        )

    return [
        body(1, from_number=_ANA, content="Who has the long rope?"),
        body(2, from_number=_CAM, content="I do, bringing it on Saturday"),
        body(3, from_number=_ANA, content="Loved “I do, bringing it on Saturday”"),
        body(4, from_number=_LINE, to_number=[_ANA, _CAM], is_outbound=True, status="DELIVERED", content="Great!"),
    ]


def sinch(now: datetime, tag: str) -> Bodies:
    """Reports on a batch to two people, and one's reply."""
    at = format_time(now)

    def report(recipient: str, status: str, code: int) -> bytes:
        return _json(
            {
                "type": "recipient_delivery_report_sms",
                "batch_id": f"{tag}SINCHBATCH",
                "recipient": recipient.removeprefix("+"),
                "status": status,
                "code": code,
                "at": at,
            }
        )

    reply = {
        "type": "mo_text",
        "id": f"{tag}SINCHMO",
        "from": _ANA.removeprefix("+"),
        "to": _LINE.removeprefix("+"),
        "body": "Thanks, got it",
        "received_at": at,
    }
    return [report(_ANA, "Delivered", 0), report(_BEN, "Failed", 27), _json(reply)]


def whatsapp(now: datetime, tag: str) -> Bodies:
    """A member joins a group by its link, two write in one request, and our message is read by both."""
    seconds = str(int(now.timestamp()))
    group = f"{tag}-whatsapp-group"

    def change(field: str, **value: Any) -> dict[str, Any]:
        metadata = {"display_phone_number": _LINE.removeprefix("+"), "phone_number_id": "555000000000001"}
        return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}

    def body(*changes: dict[str, Any]) -> bytes:
        entry = {"id": "555000000000009", "changes": list(changes)}
        return _json({"object": "whatsapp_business_account", "entry": [entry]})

    def message(number: int, sender: str, text: str) -> dict[str, Any]:
        return {
            "from": sender.removeprefix("+"),
            "group_id": group,
            "id": f"wamid.{tag}-{number}",
            "timestamp": seconds,
            "type": "text",
            "text": {"body": text},
        }

    joined = {
        "type": "group_participants_add",
        "group_id": group,
        "timestamp": seconds,
        "reason": "invite_link",
        "added_participants": [{"wa_id": _BEN.removeprefix("+")}],
    }
    read = [
        {
            "id": f"wamid.{tag}-sent",
            "status": "read",
            "timestamp": seconds,
            "recipient_type": "group",
            "recipient_id": group,
            "recipient_participant_id": member.removeprefix("+"),
        }
        for member in (_ANA, _BEN)
    ]
    written = [message(1, _ANA, "Welcome, Ben! 👋"), message(2, _BEN, "Hi all")]
    return [
        body(change("group_participants_update", groups=[joined])),
        body(change("messages", messages=written), change("messages", statuses=read)),
    ]


#: The sample conversation of each provider.
SAMPLES: dict[str, Callable[[datetime, str], Bodies]] = {
    "telnyx": telnyx,
    "sendblue": sendblue,
    "sinch": sinch,
    "whatsapp": whatsapp,
}

#: The line that all samples use, for the accounts of a try-out.
LINE = _LINE


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
