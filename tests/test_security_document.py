"""SECURITY.md says what is stored where: all of it, as the code has it, and nothing that is not so."""

import re
from pathlib import Path

from receiver import http_protocol
from receiver.body import MAX_DEPTH
from receiver.captures import QUARANTINE_BYTES
from receiver.schemes import Ed25519
from tests.test_documents import prose

ROOT = Path(__file__).parent.parent
SECURITY = ROOT / "SECURITY.md"


def families() -> set[str]:
    """Every kind of key in the keyspace, without its prefix, and with `…` for what differs."""
    text = (ROOT / "schemas" / "keyspace.py").read_text()
    spelled = re.findall(r'f"\{self\.prefix\}:([^"]*)"', text)
    return {re.sub(r"(…:?)+$", "…", re.sub(r"\{[^}]*\}", "…", key)) for key in spelled}


def test_every_kind_of_key_is_in_the_table() -> None:
    """Whoever adds a key says what it holds, whose that is and for how long; channels are no keys."""
    text = prose(SECURITY)
    table = text[text.index("| key | holds |") : text.index("What is published on channels")]
    named = [key for row in table.split("\n| ")[2:] for key in re.findall(r"`([^`]+)`", row.split("|")[0])]

    assert len(named) == len(set(named))
    assert set(named) == families() - {"events:", "events:*", "events:…"}


def test_a_subscribers_commands_are_those_of_its_user() -> None:
    """The rights that the text gives a subscriber are those in users.acl, no more and no fewer."""
    [user] = [
        line for line in (ROOT / "deploy/users.acl").read_text().splitlines() if line.startswith("user subscriber")
    ]
    text = prose(SECURITY)
    sentence = text[text.index("run these commands alone") : text.index("It can neither write")]

    assert re.findall(r"`([^`]+)`", sentence) == re.findall(r" \+(\S+)", user)
    assert re.findall(r" ~(\S+)", user) == ["partyline:{default}:events"]


def test_the_numbers_are_those_of_the_code() -> None:
    """Limits that no setting changes stand in the text as they are."""
    text = prose(SECURITY)

    assert f"after {http_protocol.HEAD_SECONDS:g} s, 431 beyond {http_protocol.HEAD_BYTES // 1024} KiB" in text
    assert f"closed after {http_protocol.IDLE_SECONDS} s; of more than {http_protocol.CROWD} a worker has" in text
    assert f"hung up on after {http_protocol.UNREAD_SECONDS:g} s" in text
    assert f"nesting beyond {MAX_DEPTH} levels" in text
    assert f"401 beyond {Ed25519().tolerance_seconds:g} s (Telnyx)" in text
    assert f"the latest {QUARANTINE_BYTES // 1024**2} MiB" in text


def test_every_setting_that_is_named_exists() -> None:
    """A setting in the text is one of the example's."""
    example = (ROOT / "deploy" / "partyline.example.toml").read_text()
    settings = set(re.findall(r"`(server|redis|spool|retention)\.([a-z_]+)`", prose(SECURITY)))

    assert len(settings) > 10
    assert [name for _, name in settings if not re.search(rf"^{name} = ", example, re.MULTILINE)] == []
