from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.provider import Scheme
from receiver.schemes import BasicAuth, Ed25519, HubSignature, SharedSecret, Signed, SinchHmac, UrlToken
from schemas.callback import Arrival
from schemas.errors import (
    AuthenticationError,
    SignatureMalformed,
    SignatureMismatch,
    SignatureMissing,
    TimestampOutsideTolerance,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BODY = b'{"id":"ev-1","text":"Kettle is on"}'

# The key pair in telnyx-java's tests, and TEST 1 of RFC 8032: private seed by public key.
FIRST_KEY = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs="
SECOND_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
SEEDS = {
    FIRST_KEY: "i1xxSkIuQOY9H8laaRslIoYGTJ1NwBAFdjsQwiwJH04=",
    SECOND_KEY: "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
}
ZERO_KEY = b64encode(bytes(32)).decode()


class Case(msgspec.Struct, frozen=True):
    """A scheme that reads headers, two credentials for it, and how a request is signed with either."""

    scheme: Scheme
    first: str
    second: str
    sign: Callable[[bytes, str], Signed]
    #: Headers without which a request of this scheme is incomplete.
    needed: tuple[bytes, ...]

    def request(self, credential: str, body: bytes = BODY) -> Arrival:
        """A request as the provider would send it."""
        return arrival(self.sign(body, credential), body)


def arrival(headers: Signed, body: bytes = BODY, url_token: str | None = None) -> Arrival:
    """A request to an account `main`, with these headers beside one that means nothing."""
    return Arrival(
        provider="anybody",
        account="main",
        method="POST",
        url="https://hooks.example.com/webhooks/anybody/main",
        headers=((b"host", b"hooks.example.com"), *headers),
        url_token=url_token,
        body=body,
    )


def sendblue_secret() -> SharedSecret:
    """The scheme with the header that Sendblue uses."""
    return SharedSecret(b"sb-signing-secret")


CASES = {
    "ed25519": Case(
        scheme=Ed25519(),
        first=FIRST_KEY,
        second=SECOND_KEY,
        sign=lambda body, key: Ed25519().sign(body, SEEDS[key], NOW),
        needed=(b"telnyx-signature-ed25519", b"telnyx-timestamp"),
    ),
    "shared_secret": Case(
        scheme=sendblue_secret(),
        first="Pebble-Harbour-7",
        second="Pebble-Harbour-8",
        sign=lambda _, secret: sendblue_secret().sign(secret),
        needed=(b"sb-signing-secret",),
    ),
    "sinch_hmac": Case(
        scheme=SinchHmac(),
        first="Lantern-On-The-Pier",
        second="Lantern-On-The-Quay",
        sign=lambda body, secret: SinchHmac().sign(body, secret, "01K5MNAY5ZJ6T8R1QF3C7VWXDH", NOW),
        needed=(
            b"x-sinch-webhook-signature",
            b"x-sinch-webhook-signature-nonce",
            b"x-sinch-webhook-signature-timestamp",
        ),
    ),
    "hub_signature": Case(
        scheme=HubSignature(),
        first="7d0f4a1e2b3c4d5e6f708192a3b4c5d6",
        second="8d0f4a1e2b3c4d5e6f708192a3b4c5d6",
        sign=lambda body, secret: HubSignature().sign(body, secret),
        needed=(b"x-hub-signature-256",),
    ),
    "basic_auth": Case(
        scheme=BasicAuth(),
        first="sinch:open sesame",
        second="sinch:close sesame",
        sign=lambda _, pair: BasicAuth().sign(pair),
        needed=(b"authorization",),
    ),
}
SIGNED = ("ed25519", "sinch_hmac", "hub_signature")
NEEDED = [(name, header) for name, case in CASES.items() for header in case.needed]

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_header = pytest.mark.parametrize(("name", "header"), NEEDED, ids=[header.decode() for _, header in NEEDED])


def with_header(request: Arrival, name: bytes, *values: bytes) -> Arrival:
    """The request with other values of one header: none of them takes it away."""
    others = tuple(header for header in request.headers if header[0] != name)
    return msgspec.structs.replace(request, headers=(*others, *((name, value) for value in values)))


# --- signatures made by others ---


def vectors() -> list[Any]:
    """Every vector on disk, with the scheme it is for."""
    found = []
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json")):
        document = orjson.loads(path.read_bytes())
        found += [
            pytest.param(document["scheme"], vector, id=f"{path.stem}: {vector['name']}")
            for vector in document["vectors"]
        ]
    return found


@pytest.mark.parametrize(("scheme_name", "vector"), vectors())
def test_a_signature_made_by_others_gets_its_verdict(scheme_name: str, vector: dict[str, Any]) -> None:
    """What OpenSSL or an RFC signed is accepted or refused as the vector says."""
    schemes: dict[str, Scheme] = {
        "Ed25519": Ed25519(),
        "SinchHmac": SinchHmac(),
        "HubSignature": HubSignature(),
        "BasicAuth": BasicAuth(),
    }
    body = b64decode(vector["body_b64"]) if "body_b64" in vector else vector["body"].encode()
    request = arrival([(name.encode(), value.encode()) for name, value in vector["headers"]], body)
    now = datetime.fromtimestamp(vector["now"], UTC)

    try:
        verdict = f"credential {schemes[scheme_name].verify(request, tuple(vector['credentials']), now)}"
    except AuthenticationError as error:
        verdict = error.reason

    assert verdict == vector["verdict"]


# --- every scheme that reads headers ---


@every_case
def test_each_of_several_credentials_is_live(case: Case) -> None:
    """During a rotation the old and the new credential both work, and the index tells which."""
    both = (case.first, case.second)

    indices = [case.scheme.verify(case.request(credential), both, NOW) for credential in both]

    assert indices == [0, 1]


@every_case
def test_a_credential_taken_out_is_dead(case: Case) -> None:
    """After a rotation the old credential is refused."""
    with pytest.raises(SignatureMismatch):
        case.scheme.verify(case.request(case.first), (case.second,), NOW)


@every_case
def test_a_credential_without_configuration_is_refused_and_names_the_setting(case: Case) -> None:
    """A signature that nobody can check is not right, and the message says what to configure."""
    with pytest.raises(SignatureMismatch, match=f"the account has no {case.scheme.setting}"):
        case.scheme.verify(case.request(case.first), (), NOW)


@every_case
def test_a_request_without_the_headers_is_refused(case: Case) -> None:
    """A configured secret without a signature in the request fails."""
    assert not case.scheme.presented(arrival([]))
    with pytest.raises(SignatureMissing):
        case.scheme.verify(arrival([]), (case.first,), NOW)


@every_header
def test_a_part_of_the_headers_is_an_attempt_and_refused(name: str, header: bytes) -> None:
    """Leaving out one header of several does not hide the rest, and is refused."""
    case = CASES[name]
    request = with_header(case.request(case.first), header)

    assert case.scheme.presented(request) == (len(case.needed) > 1)
    with pytest.raises(SignatureMissing, match=header.decode()):
        case.scheme.verify(request, (case.first,), NOW)


@every_header
def test_an_empty_header_is_malformed(name: str, header: bytes) -> None:
    """An empty value is never right, not even for a credential that is empty by mistake."""
    case = CASES[name]
    request = with_header(case.request(case.first), header, b"")

    with pytest.raises(SignatureMalformed, match=header.decode()):
        case.scheme.verify(request, (case.first, ""), NOW)


@every_header
@pytest.mark.parametrize("right_first", [True, False], ids=["right first", "right last"])
def test_two_differing_values_of_a_header_are_malformed(name: str, header: bytes, right_first: bool) -> None:
    """A header that stands twice with different values is refused, wherever the right one stands."""
    case = CASES[name]
    request = case.request(case.first)
    (right,) = request.header(header)
    values = (right, b"other") if right_first else (b"other", right)

    with pytest.raises(SignatureMalformed, match=r"several .* differ"):
        case.scheme.verify(with_header(request, header, *values), (case.first,), NOW)


@every_header
def test_identical_repeats_of_a_header_are_fine(name: str, header: bytes) -> None:
    """A proxy that doubles a header changes nothing."""
    case = CASES[name]
    request = case.request(case.first)
    (right,) = request.header(header)

    assert case.scheme.verify(with_header(request, header, right, right), (case.first,), NOW) == 0


@every_case
def test_an_empty_credential_matches_nothing(case: Case) -> None:
    """A secret that is empty by mistake opens no door; a right one beside it still works."""
    request = case.request(case.first)

    assert case.scheme.verify(request, ("", case.first), NOW) == 1
    with pytest.raises(SignatureMismatch):
        case.scheme.verify(request, ("",), NOW)


@pytest.mark.parametrize("name", SIGNED)
def test_an_altered_body_is_refused(name: str) -> None:
    """One byte more or less in the body makes the signature wrong."""
    case = CASES[name]
    request = case.request(case.first)

    for body in (BODY + b"\n", BODY[:-1], BODY.replace(b"on", b"in"), b""):
        with pytest.raises(SignatureMismatch):
            case.scheme.verify(msgspec.structs.replace(request, body=body), (case.first,), NOW)


@every_case
def test_no_refusal_shows_a_credential_or_a_signature(case: Case) -> None:
    """Messages never contain what was configured, sent or expected."""
    request = case.request(case.first)
    right = [value.decode() for name, value in request.headers if name in case.needed[:1]]

    for refused in (request, arrival([(case.needed[0], b"nonsense")])):
        with pytest.raises(AuthenticationError) as caught:
            case.scheme.verify(refused, (case.second,), NOW)
        shown = [text for text in (case.first, case.second, "nonsense", *right) if text in str(caught.value)]
        assert shown == []


@pytest.mark.parametrize("name", SIGNED)
@given(body=st.binary())
def test_what_is_signed_verifies(name: str, body: bytes) -> None:
    """`sign` and `verify` agree for any body at all."""
    case = CASES[name]

    assert case.scheme.verify(case.request(case.first, body), (case.first,), NOW) == 0


@every_header
@given(data=st.data())
def test_no_other_spelling_of_a_header_is_accepted(name: str, header: bytes, data: st.DataObject) -> None:
    """One byte changed in any header that counts is refused (apart from the case of words and hex digits)."""
    case = CASES[name]
    request = case.request(case.first)
    (right,) = request.header(header)
    position = data.draw(st.integers(0, len(right) - 1))
    replacement = data.draw(st.binary(min_size=1, max_size=1).filter(lambda byte: byte.lower() not in right.lower()))
    wrong = right[:position] + replacement + right[position + 1 :]

    with pytest.raises(AuthenticationError):
        case.scheme.verify(with_header(request, header, wrong), (case.first,), NOW)


texts = st.text(alphabet=st.characters(codec=None), max_size=20)
header_values = st.binary(max_size=120) | st.binary(max_size=70).map(b64encode) | st.sampled_from([b"0", b"9" * 12])


@every_case
@given(data=st.data())
def test_verification_is_total(case: Case, data: st.DataObject) -> None:
    """Any header values, body and credentials are accepted or refused; nothing else is ever raised."""
    names = st.sampled_from([*case.needed, b"x-sinch-webhook-signature-algorithm"])
    headers = data.draw(st.lists(st.tuples(names, header_values), max_size=5))
    keys = st.binary(min_size=32, max_size=32).map(lambda raw: b64encode(raw).decode())
    credentials = data.draw(st.lists(texts | keys | st.sampled_from([case.first, ZERO_KEY]), max_size=3))
    request = arrival(headers, data.draw(st.binary(max_size=50)), data.draw(st.none() | texts))

    presented = case.scheme.presented(request)
    try:
        index = case.scheme.verify(request, tuple(credentials), NOW)
    except AuthenticationError:
        return

    # Only a secret sent verbatim can be right by chance.
    assert presented
    assert credentials[index].encode("utf-8", "surrogatepass") == request.header(case.needed[0])[0]


# --- Ed25519 ---


@pytest.mark.parametrize(
    "signature",
    ["dGVzdA==", "***", "", "=" * 88, "A" * 87, "A" * 86 + "=="[:1]],
    ids=["too short", "no base64", "empty", "padding only", "cut", "padding cut"],
)
def test_ed25519_refuses_what_is_no_signature(signature: str) -> None:
    """A signature that is not the base64 of 64 bytes is malformed, not merely wrong."""
    request = with_header(CASES["ed25519"].request(FIRST_KEY), b"telnyx-signature-ed25519", signature.encode())

    with pytest.raises(SignatureMalformed):
        Ed25519().verify(request, (FIRST_KEY,), NOW)


def test_ed25519_takes_one_spelling_of_base64_only() -> None:
    """Line breaks, missing padding, url-safe letters and stray bits are refused, though lenient decoders differ."""
    request = CASES["ed25519"].request(FIRST_KEY)
    (right,) = request.header(b"telnyx-signature-ed25519")
    last = right[-3:-2]
    stray = bytes([last[0] + 1]) if last in b"AQgw" else b"B"
    spellings = [
        right[:48] + b"\n" + right[48:],
        right + b"\n",
        b" " + right,
        right.rstrip(b"="),
        right + b"=",
        right[:-3] + stray + b"==",
        right[:10] + b"-_" + right[12:],
    ]

    for spelling in spellings:
        with pytest.raises(SignatureMalformed):
            Ed25519().verify(with_header(request, b"telnyx-signature-ed25519", spelling), (FIRST_KEY,), NOW)


@pytest.mark.parametrize(
    "timestamp",
    [
        b"not-a-number",
        b"1_700_000_000",
        b" 1795262400",
        b"+1795262400",
        b"-1795262400",
        b"1795262400.0",
        b"1.8e9",
        "١٧٩٥٢٦٢٤٠٠".encode(),
        b"\xb2\xb3",
        b"1" * 13,
    ],
)
def test_ed25519_takes_plain_digits_for_a_time_only(timestamp: bytes) -> None:
    """What int() or float() would read beyond 1 to 12 ASCII digits is malformed."""
    request = with_header(CASES["ed25519"].request(FIRST_KEY), b"telnyx-timestamp", timestamp)

    with pytest.raises(SignatureMalformed, match="telnyx-timestamp"):
        Ed25519().verify(request, (FIRST_KEY,), NOW)


@pytest.mark.parametrize(("seconds", "accepted"), [(300, True), (-300, True), (300.5, False), (-300.5, False)])
def test_ed25519_takes_300_seconds_either_way(seconds: float, accepted: bool) -> None:
    """The limit itself is inside; half a second beyond it is not, and the error tells the age."""
    request = CASES["ed25519"].request(FIRST_KEY)
    now = NOW + timedelta(seconds=seconds)

    try:
        age = None if Ed25519().verify(request, (FIRST_KEY,), now) == 0 else 0.0
    except TimestampOutsideTolerance as error:
        age = error.age_seconds

    assert age == (None if accepted else seconds)


def test_ed25519_has_its_tolerance_from_the_value() -> None:
    """A provider with another window says so where it names the scheme."""
    request = CASES["ed25519"].request(FIRST_KEY)

    with pytest.raises(TimestampOutsideTolerance):
        Ed25519(tolerance_seconds=60).verify(request, (FIRST_KEY,), NOW + timedelta(seconds=61))


@pytest.mark.parametrize(
    ("key", "mistake"),
    [
        (FIRST_KEY, None),
        ("", "0 bytes"),
        ("not a key!", "not standard base64"),
        (FIRST_KEY.rstrip("="), "not standard base64"),
        (FIRST_KEY + "\n", "not standard base64"),
        (FIRST_KEY.replace("/", "_"), "not standard base64"),
        ("dGVzdGtleQ==", "7 bytes"),
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----", "PEM"),
        (ZERO_KEY, "placeholder"),
        ("\ud800", "not standard base64"),
    ],
)
def test_ed25519_explains_what_is_wrong_with_a_key(key: str, mistake: str | None) -> None:
    """A mistake in a configured key is described for people; a good key has none."""
    found = Ed25519().mistake(key)

    assert (found is None) if mistake is None else (found is not None and mistake in found)


def test_ed25519_passes_over_a_broken_key() -> None:
    """A broken key beside a good one never raises anything else and never hides the good one."""
    request = CASES["ed25519"].request(FIRST_KEY)

    assert Ed25519().verify(request, ("broken", ZERO_KEY, FIRST_KEY), NOW) == 2


# --- Sinch ---


@pytest.mark.parametrize("algorithm", [b"HmacSHA1", b"none", b"HmacSHA512", b"HmacSHA256 ", b"\xff"])
def test_sinch_does_not_let_the_request_choose_its_algorithm(algorithm: bytes) -> None:
    """Any algorithm but HmacSHA256 is malformed, even when the signature is right."""
    request = with_header(
        CASES["sinch_hmac"].request("Lantern-On-The-Pier"), b"x-sinch-webhook-signature-algorithm", algorithm
    )

    with pytest.raises(SignatureMalformed, match="algorithm"):
        SinchHmac().verify(request, ("Lantern-On-The-Pier",), NOW)


def test_sinch_retries_are_accepted_whenever_they_come() -> None:
    """A signature of 22 hours ago is right, since nothing says that Sinch signs a retry anew."""
    request = CASES["sinch_hmac"].request("Lantern-On-The-Pier")

    assert SinchHmac().verify(request, ("Lantern-On-The-Pier",), NOW + timedelta(hours=22)) == 0


def test_sinch_covers_nonce_and_timestamp() -> None:
    """A changed nonce or timestamp makes the signature wrong."""
    request = CASES["sinch_hmac"].request("Lantern-On-The-Pier")

    for header in (b"x-sinch-webhook-signature-nonce", b"x-sinch-webhook-signature-timestamp"):
        with pytest.raises(SignatureMismatch):
            SinchHmac().verify(with_header(request, header, b"1"), ("Lantern-On-The-Pier",), NOW)


# --- WhatsApp ---


@pytest.mark.parametrize(
    "value",
    [
        b"sha256=",
        b"sha256=zz",
        b"sha1=" + b"0" * 40,
        b"SHA256=" + b"0" * 64,
        b"0" * 64,
        b"sha256=" + b"0" * 63,
        b"sha256=" + b"0" * 66,
        b"sha256= " + b"0" * 64,
        b"sha256=sha256=" + b"0" * 64,
    ],
)
def test_hub_signature_refuses_what_is_no_signature(value: bytes) -> None:
    """Anything but sha256= and 64 hexadecimal digits is malformed."""
    with pytest.raises(SignatureMalformed):
        HubSignature().verify(arrival([(b"x-hub-signature-256", value)]), ("key",), NOW)


def test_hub_signature_ignores_the_older_sha1_header() -> None:
    """The SHA-1 signature that Meta still sends beside it proves nothing and harms nothing."""
    assert not HubSignature().presented(arrival([(b"x-hub-signature", b"sha1=" + b"0" * 40)]))


# --- secrets, basic auth, tokens ---


@pytest.mark.parametrize("sent", [b"pebble-harbour-7", b"Pebble-Harbour-", b"Pebble-Harbour-7 ", b"Pebble-Harbour-77"])
def test_a_shared_secret_is_compared_verbatim(sent: bytes) -> None:
    """Case, length and white space count."""
    with pytest.raises(SignatureMismatch):
        sendblue_secret().verify(arrival([(b"sb-signing-secret", sent)]), ("Pebble-Harbour-7",), NOW)


def test_a_shared_secret_is_a_secret_header() -> None:
    """The header that holds the secret is named, so that it is never stored."""
    assert sendblue_secret().secret_headers == {b"sb-signing-secret"}


def test_basic_auth_leaves_other_kinds_of_authorization_alone() -> None:
    """A Bearer token is no attempt at basic auth; the word Basic counts in any case."""
    kinds = [b"Bearer QTpi", b"Basic QTpi", b"BASIC QTpi", b"Basic", b"Basically QTpi", b""]

    presented = [BasicAuth().presented(arrival([(b"authorization", kind)])) for kind in kinds]

    assert presented == [False, True, True, True, False, False]


@pytest.mark.parametrize(
    "value",
    [
        b"Basic",
        b"Basic ",
        b"Basic Og==",
        b"Basic QQ==",
        b"Basic not base64",
        b"Basic QTpi\n",
        b"Basic QTpi, Basic QTpi",
    ],
)
def test_basic_auth_refuses_what_is_no_user_and_password(value: bytes) -> None:
    """Undecodable or empty credentials are malformed."""
    with pytest.raises(SignatureMalformed):
        BasicAuth().verify(arrival([(b"authorization", value)]), ("A:b", "A", ":"), NOW)


def test_a_url_token_is_right_wrong_or_absent() -> None:
    """Each of several tokens is live; another, an empty or no token is refused."""
    tokens = ("tide-table-41", "tide-table-42", "")

    index = UrlToken().verify(arrival([], url_token="tide-table-42"), tokens, NOW)

    assert index == 1
    for token, error in (("tide-table", SignatureMismatch), ("", SignatureMalformed), (None, SignatureMissing)):
        with pytest.raises(error, match="URL"):
            UrlToken().verify(arrival([], url_token=token), tokens, NOW)


def test_a_url_token_is_presented_by_the_url_going_on() -> None:
    """An empty last segment is an attempt as well; only a URL without one is none."""
    presented = [UrlToken().presented(arrival([], url_token=token)) for token in ("tide", "", None)]

    assert presented == [True, True, False]


@given(token=texts, tokens=st.lists(texts, max_size=3))
def test_url_tokens_are_total(token: str, tokens: list[str]) -> None:
    """Any token matches itself if configured and not empty, and is refused otherwise."""
    request = arrival([], url_token=token)

    if token and token in tokens:
        assert UrlToken().verify(request, tuple(tokens), NOW) == tokens.index(token)
    else:
        with pytest.raises(AuthenticationError):
            UrlToken().verify(request, tuple(tokens), NOW)


@pytest.mark.parametrize(
    ("scheme", "credential", "mistake"),
    [
        (sendblue_secret(), "Pebble-Harbour-7", None),
        (sendblue_secret(), "", "is empty"),
        (sendblue_secret(), "Pebble-Harbour-7\n", "has white space around it"),
        (SinchHmac(), " Lantern", "has white space around it"),
        (SinchHmac(), "Lantern On The Pier", None),
        (HubSignature(), "", "is empty"),
        (HubSignature(), "a\x00b", "holds a character that cannot be printed"),
        (BasicAuth(), "user:pass:word", None),
        (BasicAuth(), "user:", None),
        (BasicAuth(), "user", "is not of the form user:password"),
        (BasicAuth(), ":", "is not of the form user:password"),
        (BasicAuth(), "user:password\n", "has white space around it"),
        (UrlToken(), "tide-table-42", None),
        (UrlToken(), "", "is empty"),
        (UrlToken(), "tide/table", "holds a character that does not stand for itself in a URL's path"),
        (UrlToken(), "tide table", "holds a character that does not stand for itself in a URL's path"),
    ],
)
def test_a_mistake_in_a_credential_is_explained(scheme: Scheme, credential: str, mistake: str | None) -> None:
    """What can never match is told before the first request does not."""
    assert scheme.mistake(credential) == mistake
