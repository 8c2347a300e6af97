"""The vectors of correlator/README.md, made anew by its recipe with the standard library alone, and by our own code."""

import re
from base64 import b32encode
from hashlib import blake2b
from pathlib import Path

import pytest

from correlator.keys import Keys
from schemas.address import AddressError
from schemas.ids import Scope

_PAGE = Path(__file__).parent.parent / "correlator" / "README.md"
_ROW = re.compile(r"\| `(.*)` \| `(cv|ac|au)` \| (.*) \| `(\w+)` \|")


def _vectors() -> list[tuple[str, str, list[str], str]]:
    rows = []
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        if row := _ROW.fullmatch(line):
            id_key, tag, parts, key = row.groups()
            rows.append((id_key, tag, [part.strip("`").replace("empty", "") for part in parts.split(", ")], key))
    return rows


def test_the_page_has_a_vector_of_each_sort() -> None:
    """Conversations of all four kinds, with and without an id_key, an account and an audience are in the table."""
    vectors = _vectors()

    assert {tag for _, tag, _, _ in vectors} == {"cv", "ac", "au"}
    assert {parts[3] for _, tag, parts, _ in vectors if tag == "cv"} == {"set", "pair", "user", "group"}
    assert {id_key for id_key, _, _, _ in vectors} == {"a key", ""}


@pytest.mark.parametrize(("id_key", "tag", "parts", "key"), _vectors())
def test_the_recipe_makes_the_vector(id_key: str, tag: str, parts: list[str], key: str) -> None:
    """The recipe as the page gives it, written down here once more, leads to each vector."""
    encoded = [part.encode() for part in (tag, *parts)]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    digest = blake2b(message, digest_size=16, key=id_key.encode()).digest()

    assert f"{tag}_{b32encode(digest).decode().rstrip('=').lower()}" == key


@pytest.mark.parametrize(("id_key", "tag", "parts", "key"), _vectors())
def test_our_own_derivation_makes_the_vector(id_key: str, tag: str, parts: list[str], key: str) -> None:
    """Whoever follows the page gets the keys that partyline publishes under."""
    namespace, provider, account = parts[:3] if tag != "au" else (parts[0], "any", "any")
    scope = Scope(id_key.encode(), namespace, provider, account)
    if tag == "cv":
        made: str = scope.conversation(parts[3], parts[4:])
    else:
        made = scope.whole_account() if tag == "ac" else scope.audience(parts[1:])

    assert made == key


def test_a_sender_can_know_a_key_beforehand() -> None:
    """The library's own functions make the keys of the page, whatever way the addresses are written."""
    telnyx = Keys("demo", "telnyx", "main", "a key")
    whatsapp = Keys("demo", "whatsapp", "main", "a key")

    assert telnyx.of_set("(555) 555-0122", "15555550100", "+1 555 555 0111") == "cv_6dkxmlo4gjdmctwo23a7nkvibu"
    assert telnyx.of_set("+15555550100", "+15555550111") == "cv_hhpu4jpovx5ww6a5ccoufdazdm"
    assert Keys("demo", "telnyx", "main").of_set("+15555550100", "+15555550111") == "cv_nwwln2ea3c6yhd7d26jcftay2q"
    assert Keys("demo", "sendblue", "main", "a key").of_group("sb_group_1") == "cv_vudthtpg5ro2hoyrwjcm7qrzae"
    assert Keys("demo", "sinch", "main", "a key").of_pair("15555550111", "+15555550100") == (
        "cv_tdohihqfddumamv5zqitebrerq"
    )
    assert whatsapp.of_user("555000000000001", "US.1234") == "cv_akks354x7jnoja6luxaew6x5qy"
    assert whatsapp.of_pair("whatsapp:555000000000001", "+15555550111") == Scope(
        b"a key", "demo", "whatsapp", "main"
    ).conversation("pair", ("+15555550111", "whatsapp:555000000000001"))


def test_a_key_is_not_made_of_nothing() -> None:
    """An address without anything in it is refused: it must not silently vanish from a set."""
    with pytest.raises(AddressError):
        Keys("demo", "telnyx", "main").of_set("+15555550100", " ")
