import pytest

from receiver.queries import ByAddress, ById, Directory, Query, UnreadableAddress, read_address, read_query
from schemas.address import Address
from schemas.errors import CallbackError, UnknownAccount

DIRECTORY = Directory(
    {"main-telnyx": "telnyx", "main-whatsapp": "whatsapp"}, frozenset({"telnyx", "sendblue", "sinch", "whatsapp"})
)
ANN = Address("+15555550111")


# --- looking up ---


def test_an_id_is_looked_up_within_an_account() -> None:
    """An account alone tells its provider, since names of accounts are unique; an empty value is none."""
    by = ById("telnyx", "main-telnyx", "9d12")

    assert read_query([("account", "main-telnyx"), ("id", "9d12")], DIRECTORY) == Query(by, "", 20)
    assert read_query(
        [("provider", "telnyx"), ("account", "main-telnyx"), ("id", "9d12"), ("address", ""), ("after", "")], DIRECTORY
    ) == Query(by, "", 20)


@pytest.mark.parametrize(
    ("given", "by"),
    [
        ([], ByAddress(ANN, None, None)),
        ([("provider", "telnyx")], ByAddress(ANN, "telnyx", None)),
        ([("account", "main-telnyx")], ByAddress(ANN, "telnyx", "main-telnyx")),
    ],
)
def test_an_address_is_looked_up_everywhere_or_somewhere(given: list[tuple[str, str]], by: ByAddress) -> None:
    """Without provider and account the whole namespace is searched."""
    asked = read_query([*given, ("address", "+1 (555) 555-0111"), ("limit", "100"), ("after", "c2")], DIRECTORY)

    assert asked == Query(by, "c2", 100)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "one of id and address"),
        ([("account", "main-telnyx")], "one of id and address"),
        ([("account", "main-telnyx"), ("id", "a"), ("address", "+15555550111")], "one of id and address"),
        ([("id", "a")], "account:"),
        ([("provider", "telnyx"), ("id", "a")], "account:"),
        ([("provider", "pigeon"), ("address", "+15555550111")], "provider: there is no such one; there are sendblue,"),
        ([("address", "+15555550111"), ("address", "+15555550112")], "address: stands twice"),
        ([("adress", "+15555550111")], "none of provider, account, id, address, limit, after"),
        *(
            ([("address", "+15555550111"), ("limit", limit)], "limit:")
            for limit in ("0", "101", "-1", "ten", "1e1", "٣")
        ),
    ],
)
def test_what_cannot_be_looked_up_says_why(given: list[tuple[str, str]], said: str) -> None:
    """A parameter that is missing, unknown, ambiguous or out of its range is named, and the number asked for is not."""
    with pytest.raises(CallbackError) as caught:
        read_query(given, DIRECTORY)

    assert (caught.value.status, caught.value.reason) == (400, "bad_request")
    assert said in str(caught.value)
    assert "5555" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [[("account", "nobody")], [("account", "main-telnyx"), ("provider", "whatsapp")]],
    ids=["none", "another's"],
)
def test_an_account_that_there_is_not_is_unknown(given: list[tuple[str, str]]) -> None:
    """A name nobody configured, or with another provider than its own, finds nothing quietly to nobody's confusion."""
    with pytest.raises(UnknownAccount):
        read_query([*given, ("address", "+15555550111")], DIRECTORY)


# --- addresses ---


@pytest.mark.parametrize(
    ("text", "provider", "address"),
    [
        ("+1 (555) 555-0111", None, "+15555550111"),
        ("15555550111", None, "+15555550111"),
        ("5555550111", "telnyx", "+15555550111"),
        (" 15555550111", None, "+15555550111"),  # `?address=+1…`, as URLs write a space
        (" 4915550018", "telnyx", "+4915550018"),
        ("Ann@Example.com", None, "ann@example.com"),
        ("40404", "telnyx", "telnyx:40404"),
        ("telnyx:40404", None, "telnyx:40404"),
        ("telnyx:40404", "telnyx", "telnyx:40404"),
        ("whatsapp:106540352242922", None, "whatsapp:106540352242922"),  # a line by its id, as events show it
        ("whatsapp:US.13491208655302741918", None, "whatsapp:US.13491208655302741918"),
        ("sinch:app:01E", "sinch", "sinch:app:01E"),
    ],
)
def test_an_address_is_read_however_it_is_spelled(text: str, provider: str | None, address: str) -> None:
    """A person's spelling and our own canonical one lead to the same address."""
    assert read_address(text, provider, DIRECTORY) == address


@pytest.mark.parametrize(
    ("text", "provider", "said"),
    [
        ("40404", None, "its provider's name"),
        ("harbour office", None, "its provider's name"),
        ("pigeon:40404", None, "its provider's name"),
        ("\u202d", None, "nothing in it"),
        ("   ", None, "its provider's name"),
        ("whatsapp:US.1", "telnyx", "at whatsapp, not at telnyx"),
        ("telnyx:", None, "follows telnyx:"),
        ("telnyx:4\n4", None, "follows telnyx:"),
        ("telnyx:" + "4" * 400, None, "follows telnyx:"),
        ("5" * 400, "telnyx", "400 characters"),
    ],
)
def test_what_is_no_address_says_why(text: str, provider: str | None, said: str) -> None:
    """A refusal names what is wrong and never the text itself."""
    with pytest.raises(UnreadableAddress) as caught:
        read_address(text, provider, DIRECTORY)

    assert (caught.value.status, caught.value.reason) == (422, "unreadable_address")
    assert said in str(caught.value)
    assert "4040" not in str(caught.value)
