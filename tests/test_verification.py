"""What is said of a request that is refused: what was done to it, where its proof belongs, and never a secret."""

import gzip
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.alterations import undone
from receiver.providers import PROVIDERS
from receiver.schemes import BasicAuth, SharedSecret, Signed
from receiver.settings import Account, Settings
from receiver.verification import Finding, explain, explain_capture
from schemas.callback import Arrival, Capture
from schemas.ids import CaptureId
from tests.service import ACCOUNTS, BASIC, NOW, SECRETS, URL_TOKENS, basic, document, proof, settings_of

SETTINGS: Settings = settings_of(document("demo"))
#: Two members, not in alphabetical order, a letter beyond ASCII, a slash, a number that Python would write otherwise.
COMPACT = '{"text":"caf\u00e9 <a/b>","at":{"n":1.50,"list":[],"b":[1,2]}}'.encode()
ESCAPED = COMPACT.replace("\u00e9".encode(), b"\\u00e9")
SPACED = '{"text": "caf\u00e9 <a/b>", "at": {"n": 1.50, "list": [], "b": [1, 2]}}'.encode()
INDENTED = """\
{
  "text": "caf\u00e9 <a/b>",
  "at": {
    "n": 1.50,
    "list": [],
    "b": [
      1,
      2
    ]
  }
}""".encode()
SIGNED = ("telnyx", "sinch", "whatsapp")


def account(provider: str) -> Account:
    """The account of a provider."""
    return SETTINGS.accounts[f"main-{provider}"]


def arrival(provider: str, body: bytes, headers: Signed, token: str | None = None) -> Arrival:
    """A request to the account of a provider."""
    return Arrival(
        provider=provider,
        account=f"main-{provider}",
        method="POST",
        url="",
        headers=tuple(headers),
        url_token=token,
        body=body,
    )


def found(request: Arrival, *others: Account, after_seconds: float = 0) -> Finding:
    """What is said of a request that was received some time after it was signed, an hour ago."""
    received = NOW + timedelta(seconds=after_seconds)
    of = account(request.provider)
    return explain(request, of, PROVIDERS[request.provider], received, NOW + timedelta(hours=1), others=others)


def name_of(finding: Finding) -> str | None:
    """The alteration that fits."""
    return finding.alteration.name if finding.alteration else None


# --- bodies that were altered -----------------------------------------------------------------------------

GATEWAY = orjson.dumps({"resource": "/hook", "body": COMPACT.decode(), "isBase64Encoded": False})
GATEWAY_BASE64 = orjson.dumps({"body": b64encode(COMPACT).decode(), "isBase64Encoded": True})
CHUNKED = b"5\r\n" + COMPACT[:5] + b"\r\n%x;ext=1\r\n" % len(COMPACT[5:]) + COMPACT[5:] + b"\r\n0\r\n\r\n"
ALTERED = {
    "newline_added": (COMPACT, COMPACT + b"\n", "newline_added"),
    "crlf_added": (COMPACT, COMPACT + b"\r\n", "newline_added"),
    "newline_stripped": (INDENTED + b"\n", INDENTED, "newline_stripped"),
    "crlf_stripped": (INDENTED + b"\r\n", INDENTED, "newline_stripped"),
    "crlf_to_lf": (INDENTED.replace(b"\n", b"\r\n"), INDENTED, "crlf_to_lf"),
    "lf_to_crlf": (INDENTED, INDENTED.replace(b"\n", b"\r\n"), "lf_to_crlf"),
    "whitespace_added": (COMPACT, b"  " + COMPACT + b"\t\n", "whitespace_added"),
    "whitespace_stripped": (COMPACT + b" ", COMPACT, "whitespace_stripped"),
    "bom_added": (COMPACT, b"\xef\xbb\xbf" + COMPACT, "bom_added"),
    "bom_stripped": (b"\xef\xbb\xbf" + COMPACT, COMPACT, "bom_stripped"),
    "encoded_twice": (COMPACT, COMPACT.decode("latin-1").encode(), "encoded_twice"),
    "gzip_left": (COMPACT, gzip.compress(COMPACT), "left_compressed"),
    "deflate_left": (COMPACT, zlib.compress(COMPACT), "left_compressed"),
    "raw_deflate_left": (COMPACT, zlib.compress(COMPACT)[2:-4], "left_compressed"),
    "gzip_undone": (gzip.compress(COMPACT, mtime=0), COMPACT, "decompressed"),
    "form_field": (COMPACT, b"id=7&payload=" + quote(COMPACT).encode(), "form_encoded"),
    "form_name": (COMPACT, quote(COMPACT).encode() + b"=", "form_encoded"),
    "gateway": (COMPACT, GATEWAY, "wrapped"),
    "gateway_base64": (COMPACT, GATEWAY_BASE64, "wrapped"),
    "base64": (COMPACT, b64encode(COMPACT), "base64"),
    "json_text": (COMPACT, orjson.dumps(COMPACT.decode()), "json_text"),
    "chunks": (COMPACT, CHUNKED, "chunk_sizes_left"),
    "spaced_to_compact": (SPACED, COMPACT, "json_whitespace"),
    "compact_to_spaced": (COMPACT, SPACED, "json_whitespace"),
    "indented_to_compact": (INDENTED, COMPACT, "json_whitespace"),
    "compact_to_indented": (COMPACT, INDENTED, "json_whitespace"),
    "line_end_of_encoder": (SPACED + b"\n", COMPACT, "json_whitespace"),
    "escapes_to_utf_8": (ESCAPED, COMPACT, "json_escapes"),
    "upper_escapes_to_utf_8": (ESCAPED.replace(b"00e9", b"00E9"), COMPACT, "json_escapes"),
    "lower_to_upper": (ESCAPED, ESCAPED.replace(b"00e9", b"00E9"), "json_escapes"),
    "utf_8_to_escapes": (COMPACT, ESCAPED, "json_escapes"),
    "slashes": (ESCAPED.replace(b"/", b"\\/"), COMPACT, "json_escapes"),
    "go": (COMPACT.replace(b"<", b"\\u003c").replace(b">", b"\\u003e"), COMPACT, "json_escapes"),
    "both": (ESCAPED, SPACED, "json_rewritten"),
    "sorted": (b'{"a":1,"b":{"c":2,"d":3}}', b'{"b": {"d": 3, "c": 2}, "a": 1}', "json_sorted"),
}


@pytest.mark.parametrize("provider", SIGNED)
@pytest.mark.parametrize(("sent", "came", "name"), ALTERED.values(), ids=ALTERED)
def test_the_alteration_of_a_body_is_named(provider: str, sent: bytes, came: bytes, name: str) -> None:
    """Whatever usual thing was done to a body on its way, it is refused, and that thing is what is named."""
    right = found(arrival(provider, sent, proof(provider, sent)))
    finding = found(arrival(provider, came, proof(provider, sent)))

    assert (right.verdict, right.alteration) == ("authentic", None)
    assert (finding.verdict, finding.reason, name_of(finding)) == ("refused", "signature_mismatch", name)


@given(body=st.binary(max_size=200))
def test_undoing_takes_any_body(body: bytes) -> None:
    """Nothing that can arrive makes the search fail, and no candidate is the request itself."""
    request = arrival("telnyx", body, [(b"telnyx-timestamp", b"01")])

    assert all(earlier != request for _, earlier in undone(request))


@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"a":' * 50_000, b'"' * 999, b"ffffffff\r\n", b'{"body":"\\ud800"}'])
def test_undoing_takes_hostile_bodies(body: bytes) -> None:
    """Depth, loose quotes, absurd chunk sizes and lone surrogates end the search and nothing else."""
    assert len(list(undone(arrival("telnyx", body, [])))) > 5


# --- headers that were altered ----------------------------------------------------------------------------


def changed(headers: Signed, name: bytes, change: Callable[[bytes], bytes]) -> Signed:
    """Headers with another value of one of them."""
    return [(key, change(value) if key == name else value) for key, value in headers]


SB, HUB, TELNYX_TIME = b"sb-signing-secret", b"x-hub-signature-256", b"telnyx-timestamp"
HEADERS: dict[str, tuple[str, bytes, Callable[[bytes], bytes], str, str]] = {
    "leading_zeros": ("telnyx", TELNYX_TIME, lambda v: b"0" + v, "signature_mismatch", "timestamp_rewritten"),
    "milliseconds": ("telnyx", TELNYX_TIME, lambda v: v + b"000", "signature_malformed", "timestamp_rewritten"),
    "quoted": ("whatsapp", HUB, lambda v: b'"' + v + b'"', "signature_malformed", "header_quoted"),
    "joined": ("whatsapp", HUB, lambda v: v + b", " + v, "signature_malformed", "header_joined"),
    "prefix_cut": ("whatsapp", HUB, lambda v: v[7:], "signature_malformed", "header_prefix_cut"),
    "unpadded": (
        "telnyx",
        b"telnyx-signature-ed25519",
        lambda v: v.rstrip(b"="),
        "signature_malformed",
        "header_unpadded",
    ),
    "quoted_secret": ("sendblue", SB, lambda v: b'"' + v + b'"', "signature_mismatch", "header_quoted"),
    "joined_secret": ("sendblue", SB, lambda v: v + b", " + v, "signature_mismatch", "header_joined"),
}


@pytest.mark.parametrize(("provider", "name", "change", "reason", "alteration"), HEADERS.values(), ids=HEADERS)
def test_the_alteration_of_a_header_is_named(
    provider: str, name: bytes, change: Callable[[bytes], bytes], reason: str, alteration: str
) -> None:
    """A header that was rewritten on its way is refused, and how it was rewritten is what is named."""
    finding = found(arrival(provider, COMPACT, changed(proof(provider, COMPACT), name, change)))

    assert (finding.verdict, finding.reason, name_of(finding)) == ("refused", reason, alteration)


def test_renamed_headers_are_recognised() -> None:
    """Headers that a gateway handed on under names of its own are missing here, and found there."""
    headers = [(b"http_" + name.replace(b"-", b"_"), value) for name, value in proof("sinch", COMPACT)]
    finding = found(arrival("sinch", COMPACT, headers))

    assert (finding.reason, name_of(finding)) == ("signature_missing", "headers_renamed")


def test_a_header_that_is_missing_is_named() -> None:
    """Of headers that belong together the one that did not come is said."""
    headers = [header for header in proof("telnyx", COMPACT) if header[0] != TELNYX_TIME]
    finding = found(arrival("telnyx", COMPACT, headers))

    assert (finding.reason, finding.because) == ("signature_missing", "the request has no telnyx-timestamp header")


# --- where else it fits -----------------------------------------------------------------------------------


def test_a_strangers_signature_is_most_likely_another_key() -> None:
    """When nothing fits, the key is what to look at."""
    finding = found(arrival("whatsapp", COMPACT, proof("whatsapp", COMPACT, SECRETS["whatsapp"][2])))

    assert (finding.reason, finding.alteration) == ("signature_mismatch", None)
    assert "compare them there" in finding.advice[-1]


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_key_of_another_account_is_found(provider: str) -> None:
    """What fits another account of the provider was posted to the wrong URL, and that account is named."""
    stranger = SECRETS[provider][2]
    other = settings_of(document("demo", accounts={"other": {**ACCOUNTS[f"main-{provider}"]}})).accounts["other"]
    mine = settings_of(document("demo", accounts={"mine": _lone(provider)})).accounts["mine"]
    request = arrival(provider, COMPACT, proof(provider, COMPACT))
    finding = explain(request, mine, PROVIDERS[provider], NOW, NOW, others=[other])

    assert finding.reason == "signature_mismatch"
    assert finding.advice[0].startswith("it fits accounts.other.")
    assert stranger not in repr(finding)


def _lone(provider: str) -> dict[str, object]:
    """An account with one credential of its own, that of nobody else."""
    setting = {"telnyx": "public_keys", "sendblue": "secrets", "sinch": "secrets", "whatsapp": "app_secrets"}[provider]
    value = b64encode(bytes(range(32))).decode() if provider == "telnyx" else "A-lonely-credential"
    return {"provider": provider, setting: [value]}


def test_a_value_in_the_wrong_setting_is_found() -> None:
    """An app secret that was entered as verify token is said to be one."""
    changed_account = {"provider": "whatsapp", "app_secrets": ["other"], "verify_tokens": [SECRETS["whatsapp"][0]]}
    mine = settings_of(document("demo", accounts={"mine": changed_account})).accounts["mine"]
    request = arrival("whatsapp", COMPACT, proof("whatsapp", COMPACT))
    finding = explain(request, mine, PROVIDERS["whatsapp"], NOW, NOW)

    assert finding.advice == ("it fits accounts.mine.verify_tokens: that value belongs into app_secrets",)


@pytest.mark.parametrize(
    ("provider", "headers", "word"),
    [
        ("whatsapp", proof("telnyx", COMPACT), "Telnyx's"),
        ("telnyx", proof("sendblue", COMPACT), "Sendblue's"),
        ("telnyx", proof("sinch", COMPACT), "Sinch's"),
        ("sinch", proof("whatsapp", COMPACT), "WhatsApp's"),
        ("whatsapp", [(b"x-hub-signature", b"sha1=00")], "SHA-1"),
        ("telnyx", basic(BASIC[0]), "authorization"),
        ("sinch", [(b"authorization", b"Bearer x")], "authorization"),
    ],
)
def test_the_proof_of_another_provider_is_recognised(provider: str, headers: Signed, word: str) -> None:
    """A request without our kind of proof, but with another's, is told to be that one's."""
    finding = found(arrival(provider, COMPACT, headers))

    assert finding.reason == "signature_missing"
    assert word in finding.advice[0]


def test_the_setting_that_does_not_match_is_named() -> None:
    """Of several proofs, each is said to be right, wrong or not there; a right one does not save a wrong one."""
    headers = [*proof("sinch", COMPACT), *basic("ferryman:wrong")]
    finding = found(arrival("sinch", COMPACT, headers))

    assert [(check.setting, check.outcome) for check in finding.checks] == [
        ("secrets", "right"),
        ("basic_auth", "signature_mismatch"),
        ("url_tokens", "not presented"),
    ]
    assert "accounts.main-sinch.basic_auth" in finding.advice[0]
    assert "every one that a request presents must be" in finding.advice[1]


HINTS = {
    "length": (COMPACT[:-1] + b"?}", [(b"content-length", b"3")], "content-length says 3 bytes"),
    "empty": (b"", [], "the body is empty"),
    "replaced": ('{"a":"\ufffd"}'.encode(), [], "U+FFFD"),
    "sorted": (b'{"a":{"b":1,"c":2},"d":3}', [], "alphabetical order"),
}


@pytest.mark.parametrize(("body", "more", "word"), HINTS.values(), ids=HINTS)
def test_what_cannot_be_undone_leaves_its_marks(body: bytes, more: Signed, word: str) -> None:
    """A body that was altered for good is told by what that left behind."""
    finding = found(arrival("whatsapp", body, [*proof("whatsapp", b"quite another"), *more]))

    assert finding.alteration is None
    assert word in finding.advice[0]


# --- age --------------------------------------------------------------------------------------------------


def test_age_is_judged_at_its_own_time_of_receipt() -> None:
    """A request that came in time was authentic then; what it would be now is said beside."""
    finding = found(arrival("telnyx", COMPACT, proof("telnyx", COMPACT)))

    assert (finding.verdict, finding.because) == ("authentic", "public_keys[0] of account main-telnyx proves it")
    assert (
        finding.now
        == "if it came now, it would be refused as timestamp_outside_tolerance: it is 1:00:00 old by its signed time"
    )


@pytest.mark.parametrize(("seconds", "word"), [(301, "held up"), (-301, "ahead of ours")])
def test_a_request_out_of_time_is_rightly_signed(seconds: float, word: str) -> None:
    """More than five minutes off is refused, and the clocks are what to look at."""
    finding = found(arrival("telnyx", COMPACT, proof("telnyx", COMPACT)), after_seconds=seconds)

    assert (finding.verdict, finding.reason) == ("refused", "timestamp_outside_tolerance")
    assert word in finding.advice[0]


def test_without_a_time_of_receipt_it_is_judged_as_of_now() -> None:
    """Who does not say when a request came is told that its age was judged by the present."""
    request = arrival("telnyx", COMPACT, proof("telnyx", COMPACT))
    finding = explain(request, account("telnyx"), PROVIDERS["telnyx"], None, NOW + timedelta(days=1))

    assert finding.reason == "timestamp_outside_tolerance"
    assert "time of receipt is not known" in finding.advice[-1]


# --- what is never said -----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_no_finding_holds_a_secret(provider: str) -> None:
    """Whatever is wrong, neither what is configured nor what was sent nor what would be right is in the words."""
    right = [value.decode() for name, value in proof(provider, COMPACT) if b"timestamp" not in name]
    sent = [(b"sb-signing-secret", b"sent-secret-value"), *basic("sent-user:sent-password")]
    requests = [
        arrival(provider, COMPACT + b"?", proof(provider, COMPACT), "sent-token"),
        arrival(provider, COMPACT, sent, "sent-token"),
        arrival(provider, COMPACT, proof(provider, COMPACT, SECRETS[provider][2])),
    ]
    said = repr([found(request, *SETTINGS.accounts.values()) for request in requests])
    secrets = [*SECRETS[provider], *right, *BASIC, *URL_TOKENS["sinch"], *URL_TOKENS["sendblue"]]
    pieces = {secret[at : at + 10] for secret in secrets for at in range(0, len(secret) - 10, 5)}

    assert [piece for piece in pieces if piece in said] == []
    assert [word for word in ("sent-secret", "sent-user", "sent-pass", "sent-token") if word in said] == []


# --- captures ---------------------------------------------------------------------------------------------


def capture(assurance: str, headers: Signed, kind: str = "callback") -> Capture:
    """A capture of the provider's account as the log has it."""
    made = {
        "kind": kind,
        "assurance": assurance,
        "headers": tuple(headers),
        "provider": "sinch",
        "account": "main-sinch",
    }
    return Capture(
        id=CaptureId("cp_1"),
        received_at=NOW,
        body=COMPACT,
        facts=account("sinch").facts,
        **made,  # type: ignore[arg-type]
    )


def test_a_signed_capture_is_checked_again() -> None:
    """Signatures are kept, so a capture can be held against them as long as its account has the secret."""
    signed = explain_capture(capture("signed", proof("sinch", COMPACT)), account("sinch"), PROVIDERS["sinch"], NOW)
    headers = proof("sinch", COMPACT, SECRETS["sinch"][2])
    changed_since = explain_capture(capture("signed", headers), account("sinch"), PROVIDERS["sinch"], NOW)

    assert signed.verdict == "authentic"
    assert changed_since.verdict == "refused"
    assert "credentials were changed" in changed_since.advice[-1]


@pytest.mark.parametrize(
    ("assurance", "kind", "word"),
    [
        ("shared_secret", "callback", "was not kept"),
        ("basic_auth", "callback", "user and password"),
        ("url_token", "callback", "token of its URL"),
        ("none", "callback", "without any proof"),
        ("shared_secret", "link", "kind link"),
    ],
)
def test_a_capture_whose_proof_was_not_kept_says_so(assurance: str, kind: str, word: str) -> None:
    """A credential is never stored, so there is nothing to check again, and that is what is said."""
    finding = explain_capture(capture(assurance, [], kind), account("sinch"), PROVIDERS["sinch"], NOW)

    assert finding.verdict == "unknown"
    assert word in finding.because


def test_an_open_account_takes_anything_and_says_so() -> None:
    """At an account that is unsafe_no_auth there is nothing to verify."""
    mine = settings_of(document("demo", accounts={"open": {"provider": "sinch", "unsafe_no_auth": True}})).accounts[
        "open"
    ]
    finding = explain(arrival("sinch", b"", []), mine, PROVIDERS["sinch"], NOW, NOW)

    assert finding.verdict == "authentic"
    assert "unsafe_no_auth" in finding.because


def test_every_scheme_is_one_whose_secret_is_hidden_or_whose_proof_is_none() -> None:
    """Secrets in requests are only of the kinds that the quarantine knows to hide."""
    kinds = {type(scheme) for provider in PROVIDERS.values() for scheme in provider.schemes}

    assert {kind.__name__ for kind in kinds} == {
        "Ed25519",
        "SinchHmac",
        "HubSignature",
        SharedSecret.__name__,
        BasicAuth.__name__,
        "UrlToken",
    }
    assert msgspec.structs.fields(Finding)[0].name == "verdict"
