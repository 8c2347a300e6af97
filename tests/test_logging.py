"""The log of a running service: one line for each request to a webhook, and nothing of anybody in it."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.keyspace import Keyspace
from tests.processes import service
from tests.service import URL_TOKENS, VERIFY_TOKENS, captures, path
from tests.traffic import ANN, BOB, telnyx

TEXT = "Is the ferry running?"


@pytest.mark.slow
async def test_each_request_has_one_line_that_names_its_capture_and_nobody(folder: Path, namespace: str) -> None:
    """Taken, refused, unreadable, aimed at nobody, a handshake: JSON, five fields, no text, number or credential."""
    redis = {"url": "embedded", "data_dir": str(folder / "data")}
    async with service(folder, namespace, redis=redis) as running:
        client, token = running.client, URL_TOKENS["sendblue"][0]
        await running.post("telnyx", telnyx("one"))
        await running.post("telnyx", b"{}")
        await client.post(path("telnyx"), content=telnyx("two"), headers={"telnyx-signature-ed25519": "AAAA"})
        await client.post(path("sendblue", token), content=telnyx("three"))
        await client.post(f"/webhooks/telnyx/{ANN}", content=telnyx("four"))
        challenge = {"hub.mode": "subscribe", "hub.challenge": "77", "hub.verify_token": VERIFY_TOKENS[0]}
        await client.get(path("whatsapp"), params=challenge)
        await client.put(path("sinch"), content=telnyx("five"))
        await running.settled()
        kept = await captures(running.space.redis, Keyspace(namespace))
    ids = [fields[b"id"].decode() for fields in kept]
    lines: list[dict[str, Any]] = [orjson.loads(line) for line in running.process.log.splitlines()]
    said = [line for line in lines if line["event"] == "callback"]

    assert [(line["provider"], line["account"], line["outcome"], line["capture"]) for line in said] == [
        ("telnyx", "main-telnyx", "captured", ids[0]),
        ("telnyx", "main-telnyx", "captured", ids[1]),
        ("telnyx", "main-telnyx", "signature_malformed", None),
        ("sendblue", "main-sendblue", "captured", ids[2]),
        ("unknown", "unknown", "unknown_account", None),
        ("whatsapp", "main-whatsapp", "handshake", None),
        ("sinch", "main-sinch", "method_not_allowed", None),
    ]
    assert ("warning", "accounts.main-sinch.on_unauthentic") in {(line["level"], line.get("setting")) for line in lines}
    assert {line["level"] for line in said} == {"info"}
    assert all(0 < line["milliseconds"] < 20_000 for line in said)
    fields = {"event", "level", "timestamp", "provider", "account", "outcome", "capture", "milliseconds"}
    assert {field for line in said for field in line} == fields
    whole = running.process.log
    assert [word for word in (TEXT, ANN, BOB, ANN[1:], token, VERIFY_TOKENS[0]) if word in whole] == []
