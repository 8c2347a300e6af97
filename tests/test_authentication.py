from base64 import b64encode
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.authentication import (
    ReplayMalformed,
    authenticate,
    authorise,
    handshake,
    limits_age,
    operator,
    repost_headers,
    reposted,
    stored_headers,
    vouched,
    without_credentials,
)
from receiver.provider import Provider
from receiver.schemes import BasicAuth, Ed25519, HubSignature, SharedSecret, Signed, SinchHmac, UrlToken
from schemas.callback import ASSURANCES, CAPTURE_KINDS, AccountFacts, Arrival, Callback, Capture
from schemas.errors import (
    AuthenticationError,
    HandshakeRefused,
    SignatureMalformed,
    SignatureMismatch,
    SignatureMissing,
    TimestampOutsideTolerance,
)
from schemas.ids import CaptureId

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BODY = b'{"id":"ev-1"}'
SECRET = "Lantern-On-The-Pier"
TOKEN = "tide-table-41"
PAIR = "ferry:open sesame"
FACTS = AccountFacts(lines=("+15555550110",), default_line="+15555550110")


class MadeUpAccount(msgspec.Struct, frozen=True):
    """As much of an account as authentication looks at."""

    credentials: dict[str, tuple[str, ...]]
    unsafe_no_auth: bool = False
    name: str = "main"
    facts: AccountFacts = FACTS


# A provider that has it all, strongest last, so that the order of its schemes cannot be what counts.
HARBOUR = Provider(
    name="harbour",
    schemes=(UrlToken(), BasicAuth(), SharedSecret(b"x-harbour-secret", "harbour_secrets"), SinchHmac()),
    parse=lambda _: [],
    register=lambda _: [],
)
ALL = {
    "secrets": (SECRET,),
    "harbour_secrets": ("Pebble-7", "Pebble-8"),
    "basic_auth": (PAIR,),
    "url_tokens": (TOKEN,),
}


def signature(secret: str = SECRET) -> Signed:
    """Headers that prove the body."""
    return SinchHmac().sign(BODY, secret, "01K5MNAY5ZJ6T8R1QF3C7VWXDH", NOW)


def basic(pair: str = PAIR) -> Signed:
    """The header that proves user and password."""
    return BasicAuth().sign(pair)


def arrival(headers: Signed, url_token: str | None = None) -> Arrival:
    """A request to the account `main` of the made-up provider."""
    return Arrival(
        provider="harbour",
        account="main",
        method="POST",
        url="https://hooks.example.com/webhooks/harbour/main",
        headers=tuple(headers),
        url_token=url_token,
        body=BODY,
    )


def prove(request: Arrival, *settings: str) -> Callback:
    """The request, proved to an account that has only these settings; to one that has all if none is named."""
    credentials = {setting: ALL[setting] for setting in settings or ALL}
    return authenticate(request, MadeUpAccount(credentials), HARBOUR, NOW)


# --- what comes out ---


def test_a_proved_request_becomes_a_callback() -> None:
    """Everything that later stages need is in the callback: bytes, time, facts, and what proved it."""
    headers: Signed = [(b"content-type", b"application/json"), *signature()]

    callback = prove(arrival(headers))

    assert callback == Callback(
        provider="harbour",
        account="main",
        received_at=NOW,
        assurance="signed",
        credential="secrets[0]",
        headers=tuple(headers),
        body=BODY,
        facts=FACTS,
    )


def test_the_credential_tells_which_of_several_matched() -> None:
    """An operator sees when the old secret is out of use."""
    callback = prove(arrival([(b"x-harbour-secret", b"Pebble-8")]))

    assert (callback.assurance, callback.credential) == ("shared_secret", "harbour_secrets[1]")


@pytest.mark.parametrize(
    ("headers", "url_token", "strongest"),
    [
        ([], TOKEN, "url_token"),
        (basic(), TOKEN, "basic_auth"),
        ([*basic(), (b"x-harbour-secret", b"Pebble-7")], None, "shared_secret"),
        ([*basic(), (b"x-harbour-secret", b"Pebble-7"), *signature()], TOKEN, "signed"),
    ],
)
def test_the_assurance_is_the_strongest_proof(headers: Signed, url_token: str | None, strongest: str) -> None:
    """Of several right credentials the strongest is what the callback counts as."""
    assert prove(arrival(headers, url_token)).assurance == strongest


# --- one suffices, each must be right ---


@pytest.mark.parametrize(
    ("headers", "url_token", "error"),
    [
        (signature("wrong"), TOKEN, SignatureMismatch),
        (signature(), "wrong", SignatureMismatch),
        (signature(), "", SignatureMalformed),
        ([*signature(), *basic("ferry:wrong")], None, SignatureMismatch),
        ([*signature(), (b"x-harbour-secret", b"")], None, SignatureMalformed),
        ([*signature(), (b"x-harbour-secret", b"pebble-7")], TOKEN, SignatureMismatch),
        ([*basic(), signature()[0]], TOKEN, SignatureMissing),
    ],
)
def test_one_wrong_credential_is_enough_to_refuse(
    headers: Signed, url_token: str | None, error: type[AuthenticationError]
) -> None:
    """A right credential does not make up for a wrong one beside it."""
    with pytest.raises(error):
        prove(arrival(headers, url_token))


@pytest.mark.parametrize(
    ("headers", "url_token", "setting"),
    [
        (signature(), None, "secrets"),
        (basic(), None, "basic_auth"),
        ([(b"x-harbour-secret", b"Pebble-7")], None, "harbour_secrets"),
        ([], TOKEN, "url_tokens"),
    ],
)
def test_a_credential_that_cannot_be_checked_is_refused(headers: Signed, url_token: str | None, setting: str) -> None:
    """What the account has no setting for cannot be right; the message names the setting."""
    others = [other for other in ALL if other != setting]

    with pytest.raises(SignatureMismatch, match=f"the account has no {setting}$"):
        prove(arrival(headers, url_token), *others)


def test_a_request_without_any_credential_is_refused() -> None:
    """The message names the settings that the account has, so that one of them is looked at."""
    with pytest.raises(SignatureMissing, match=r"main's credentials \(basic_auth, url_tokens\)"):
        prove(arrival([(b"user-agent", b"curl")]), "url_tokens", "basic_auth")


def test_a_bearer_token_is_no_credential_of_ours() -> None:
    """An Authorization of another kind neither helps nor harms."""
    with pytest.raises(SignatureMissing):
        prove(arrival([(b"authorization", b"Bearer abc")]), "basic_auth")

    assert prove(arrival([(b"authorization", b"Bearer abc"), *signature()])).assurance == "signed"


def test_time_counts_where_the_scheme_signs_it() -> None:
    """The time of receipt that is handed in is what a signed time is compared with."""
    key, seed = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=", "i1xxSkIuQOY9H8laaRslIoYGTJ1NwBAFdjsQwiwJH04="
    provider = Provider(name="telnyx", schemes=(Ed25519(),), parse=lambda _: [], register=lambda _: [])
    account = MadeUpAccount({"public_keys": (key,)})
    request = arrival(Ed25519().sign(BODY, seed, NOW))

    assert authenticate(request, account, provider, NOW + timedelta(seconds=300)).assurance == "signed"
    with pytest.raises(TimestampOutsideTolerance):
        authenticate(request, account, provider, NOW + timedelta(seconds=301))


# --- without any authentication ---


@pytest.mark.parametrize("headers", [[], signature(), basic(), [(b"x-harbour-secret", b"")]])
def test_unsafe_no_auth_takes_anything(headers: Signed) -> None:
    """An account that was opened on purpose takes whatever is presented, and says that nothing proved it."""
    account = MadeUpAccount({}, unsafe_no_auth=True)

    callback = authenticate(arrival(headers, "anything"), account, HARBOUR, NOW)

    assert (callback.assurance, callback.credential) == ("none", "none")


@pytest.mark.parametrize("secrets", [(SECRET,), ("",)])
def test_unsafe_no_auth_yields_to_credentials(secrets: tuple[str, ...]) -> None:
    """With any credential configured, even an empty one, requests must prove themselves."""
    account = MadeUpAccount({"secrets": secrets}, unsafe_no_auth=True)

    with pytest.raises(SignatureMissing):
        authenticate(arrival([]), account, HARBOUR, NOW)


@pytest.mark.parametrize("credentials", [{}, {"secrets": ()}, {"verify_tokens": ("abc",)}])
def test_an_account_without_credentials_takes_nothing(credentials: dict[str, tuple[str, ...]]) -> None:
    """Forgetting the credentials closes the door; a setting that no scheme reads does not open it."""
    with pytest.raises(SignatureMissing, match="account main has no credentials"):
        authenticate(arrival([]), MadeUpAccount(credentials), HARBOUR, NOW)


# --- what is stored ---


def test_credentials_are_not_stored() -> None:
    """Headers that carry secrets are left out, all others stay as they came, in order."""
    headers = [
        (b"x-request-id", b"1"),
        *basic(),
        (b"cookie", b"session=1"),
        (b"x-harbour-secret", b"Pebble-7"),
        (b"x-request-id", b"2"),
        (b"proxy-authorization", b"Basic QTpi"),
        (b"content-type", b"application/json"),
    ]

    assert prove(arrival(headers)).headers == (
        (b"x-request-id", b"1"),
        (b"x-request-id", b"2"),
        (b"content-type", b"application/json"),
    )


def test_a_url_token_is_not_stored_from_headers_that_repeat_the_url() -> None:
    """Proxies pass the original path on; with the token in it, it is left out."""
    path = b"/webhooks/harbour/main/tide-table-41"
    headers = [
        (b"x-original-uri", path),
        (b"referer", b"https://hooks.example.com" + path),
        (b"x-forwarded-for", b"192.0.2.7"),
    ]

    assert prove(arrival(headers, TOKEN)).headers == ((b"x-forwarded-for", b"192.0.2.7"),)


def test_credentials_are_not_stored_without_authentication_either() -> None:
    """What an open account is sent is stored without the secrets that came along."""
    account = MadeUpAccount({}, unsafe_no_auth=True)
    headers: Signed = [*basic(), (b"x-harbour-secret", b"Pebble-7"), (b"content-type", b"application/json")]

    callback = authenticate(arrival(headers), account, HARBOUR, NOW)

    assert callback.headers == ((b"content-type", b"application/json"),)


def test_a_refused_request_can_be_kept_without_credentials() -> None:
    """What goes aside may hold a right secret beside a wrong signature; the secret is left out there, too."""
    headers: Signed = [*signature("wrong"), (b"x-harbour-secret", b"Pebble-7"), (b"x-path", b"/a/tide-table-41")]

    assert stored_headers(arrival(headers, TOKEN), HARBOUR) == tuple(signature("wrong"))


# --- any request at all ---

header_values = st.binary(max_size=60) | st.sampled_from([value for _, value in signature() + basic()])
header_names = st.sampled_from([b"authorization", b"x-harbour-secret", b"cookie", *(name for name, _ in signature())])


@given(
    headers=st.lists(st.tuples(header_names, header_values), max_size=6),
    url_token=st.none() | st.text(max_size=5) | st.just(TOKEN),
    settings=st.sets(st.sampled_from(sorted(ALL))),
)
def test_authentication_is_total(headers: Signed, url_token: str | None, settings: set[str]) -> None:
    """Any request to any account becomes a proved callback or an AuthenticationError, and nothing else."""
    account = MadeUpAccount({setting: ALL[setting] for setting in settings})

    try:
        callback = authenticate(arrival(headers, url_token), account, HARBOUR, NOW)
    except AuthenticationError:
        return

    assert callback.assurance != "none"
    assert callback.credential.partition("[")[0] in settings
    assert b"authorization" not in dict(callback.headers)


# --- the age of captures ---


def test_only_a_checked_time_limits_the_age() -> None:
    """Telnyx's signature limits the age of a callback; no other proof of any provider does."""
    telnyx = Provider(name="telnyx", schemes=(Ed25519(), UrlToken()), parse=lambda _: [], register=lambda _: [])
    whatsapp = Provider(name="whatsapp", schemes=(HubSignature(),), parse=lambda _: [], register=lambda _: [])

    limited = [
        limits_age(telnyx, "signed"),
        limits_age(telnyx, "url_token"),
        limits_age(telnyx, "none"),
        limits_age(whatsapp, "signed"),
        limits_age(HARBOUR, "signed"),
    ]

    assert limited == [True, False, False, False, False]


def test_two_signatures_limit_the_age_only_together() -> None:
    """Where one of two signatures does not sign a time, `signed` alone does not tell that it was the other."""
    provider = Provider(name="both", schemes=(Ed25519(), HubSignature()), parse=lambda _: [], register=lambda _: [])

    assert not limits_age(provider, "signed")


# --- the handshake ---

RIGHT = [("hub.mode", "subscribe"), ("hub.verify_token", "gangway"), ("hub.challenge", "0042")]


def test_a_handshake_gives_the_challenge_verbatim() -> None:
    """The challenge is text, not a number: leading zeros stay; any of the account's tokens will do."""
    assert handshake(RIGHT, ("older", "gangway")) == "0042"


def test_a_handshake_may_repeat_itself_and_say_more() -> None:
    """Identical repeats and parameters that we do not know change nothing."""
    assert handshake([*RIGHT, *RIGHT, ("hub.extra", "1")], ("gangway",)) == "0042"


@pytest.mark.parametrize(
    "query",
    [
        [],
        RIGHT[1:],
        RIGHT[:2],
        [RIGHT[0], RIGHT[2]],
        [*RIGHT, ("hub.mode", "unsubscribe")],
        [*RIGHT, ("hub.verify_token", "other")],
        [*RIGHT, ("hub.challenge", "0043")],
        [("hub.mode", "unsubscribe"), *RIGHT[1:]],
        [("hub.mode", "Subscribe"), *RIGHT[1:]],
        [RIGHT[0], ("hub.verify_token", "Gangway"), RIGHT[2]],
        [RIGHT[0], ("hub.verify_token", "gangwa"), RIGHT[2]],
        [RIGHT[0], ("hub.verify_token", ""), RIGHT[2]],
        [*RIGHT[:2], ("hub.challenge", "")],
        [("hub_mode", "subscribe"), ("hub_verify_token", "gangway"), ("hub_challenge", "0042")],
    ],
)
def test_any_other_handshake_is_refused(query: list[tuple[str, str]]) -> None:
    """A wrong, missing, empty or ambiguous parameter is refused, an empty configured token included."""
    with pytest.raises(HandshakeRefused):
        handshake(query, ("gangway", ""))


def test_a_handshake_without_configured_tokens_is_refused() -> None:
    """An account without verify tokens takes no handshake, and the message names the setting."""
    with pytest.raises(HandshakeRefused, match="verify_tokens"):
        handshake(RIGHT, ())


@given(
    query=st.lists(
        st.tuples(st.sampled_from([name for name, _ in RIGHT]), st.text(alphabet=st.characters(codec=None)))
    ),
    tokens=st.lists(st.text(alphabet=st.characters(codec=None)), max_size=3),
)
def test_a_handshake_is_total(query: list[tuple[str, str]], tokens: list[str]) -> None:
    """Any query, to an account whose token it does not hold, is refused and nothing else is raised."""
    with pytest.raises(HandshakeRefused):
        handshake([*query, ("hub.mode", "subscribe!")], tuple(tokens))


def test_a_secret_shows_in_no_refusal() -> None:
    """Neither what is configured nor what was sent is in any message."""
    sent = b64encode(b"ferry:wrong").decode()
    refused = [
        arrival(basic("ferry:wrong")),
        arrival([], "tide-table-4"),
        arrival([(b"x-harbour-secret", b"Pebble-9")]),
        arrival(signature("Lantern-Off")),
    ]

    for request in refused:
        with pytest.raises(AuthenticationError) as caught:
            prove(request)
        hidden = [
            SECRET,
            TOKEN,
            "tide-table",
            "Pebble",
            "Lantern",
            "ferry",
            sent,
            signature("Lantern-Off")[0][1].decode(),
        ]
        assert [text for text in hidden if text in str(caught.value)] == []


# --- our own ---

API_TOKENS = ("new-Beacon-91", "old-Beacon-92")


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        (b"Bearer new-Beacon-91", "api_tokens[0]"),
        (b"Bearer old-Beacon-92", "api_tokens[1]"),
        (b"bearer  old-Beacon-92 ", "api_tokens[1]"),
        (b"BEARER new-Beacon-91", "api_tokens[0]"),
    ],
)
def test_every_token_that_is_configured_is_live(value: bytes, credential: str) -> None:
    """While one token replaces another both count, and which one it was is told; the scheme's case means nothing."""
    assert authorise(((b"authorization", value),), API_TOKENS).credential == credential


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer new-Beacon-9"],
        [b"Bearer New-Beacon-91"],
        [b"Bearer new-Beacon-91 x"],
        [b"Bearernew-Beacon-91"],
        [b"Basic new-Beacon-91"],
        [b"new-Beacon-91"],
        [b"Bearer \xff\xc3\xa9\x00"],
        [b"Bearer new-Beacon-91", b"Bearer wrong"],
        [b"Basic eDp5", b"Bearer new-Beacon-91"],
    ],
)
def test_no_other_authorization_opens_anything(values: list[bytes]) -> None:
    """A missing, wrong, empty or second token is refused as unauthentic, in a message that holds none of it."""
    with pytest.raises(AuthenticationError) as caught:
        authorise(tuple((b"authorization", value) for value in values), API_TOKENS)

    assert (caught.value.reason, caught.value.status) == ("unauthentic", 401)
    assert "Beacon" not in str(caught.value)


@given(st.binary(), st.lists(st.text(alphabet=st.characters(codec=None)), max_size=2))
def test_authorisation_is_total(value: bytes, tokens: list[str]) -> None:
    """Whatever bytes are presented, to whatever tokens, they are refused or right, and nothing else is raised."""
    known = {token.encode("utf-8", "surrogatepass") for token in tokens if token}

    try:
        authorise(((b"authorization", value),), tuple(tokens))
    except AuthenticationError:
        return
    assert value.partition(b" ")[2].strip(b" ") in known


def test_an_empty_token_opens_nothing() -> None:
    """A token that came to be empty matches no empty one."""
    with pytest.raises(AuthenticationError):
        authorise(((b"authorization", b"Bearer "),), ("",))


def test_what_we_hand_in_ourselves_is_a_callback_with_a_shared_secret() -> None:
    """Whoever presents a token, or can read the configuration, is believed as far as a shared secret goes."""
    caller = authorise(((b"authorization", b"Bearer old-Beacon-92"),), API_TOKENS)
    made = [
        vouched(who, provider="harbour", account="main", facts=FACTS, headers=(), body=BODY, now=NOW)
        for who in (caller, operator())
    ]

    assert [callback.assurance for callback in made] == ["shared_secret"] * 2
    assert [callback.credential for callback in made] == ["api_tokens[1]", "configuration"]
    assert (made[0].provider, made[0].account, made[0].received_at) == ("harbour", "main", NOW)


def test_headers_are_kept_without_what_may_be_a_credential() -> None:
    """Of a request to no provider's route, everything stays but what clients and proxies prove themselves with."""
    headers = ((b"host", b"a"), (b"authorization", b"Bearer x"), (b"cookie", b"y"), (b"user-agent", b"curl"))

    assert without_credentials(headers) == ((b"host", b"a"), (b"user-agent", b"curl"))


# --- captures that another receiver posts to this one ---

REPLAY_TOKENS = ("new-Jetty-token-71", "old-Jetty-token-72")
TOLD_NAMES = ("capture", "received-at", "assurance", "kind", "headers")

captured = st.builds(
    Capture,
    id=st.binary(min_size=16, max_size=16).map(lambda data: CaptureId(f"cp_{data.hex()}")),
    kind=st.sampled_from(CAPTURE_KINDS),
    provider=st.just("harbour"),
    account=st.just("main"),
    received_at=st.integers(0, int(NOW.timestamp() * 1000)).map(lambda ms: EPOCH + timedelta(milliseconds=ms)),
    assurance=st.sampled_from(ASSURANCES),
    headers=st.lists(
        st.tuples(st.sampled_from([b"via", b"x-a", b"telnyx-timestamp", b"partyline-capture"]), st.binary())
    ).map(tuple),
    body=st.binary(),
    facts=st.just(FACTS),
)


def posted(headers: Signed, body: bytes = BODY) -> Arrival:
    """A request with these headers to the account of a receiver."""
    return msgspec.structs.replace(arrival(headers), body=body)


@given(captured, st.sampled_from(REPLAY_TOKENS))
def test_a_capture_comes_over_exactly(capture: Capture, token: str) -> None:
    """Whatever a receiver has stored, the other is told the very same, to the byte and the millisecond."""
    request = posted(list(repost_headers(capture, token)), capture.body)

    taken = reposted(request, MadeUpAccount(ALL), HARBOUR, NOW, REPLAY_TOKENS)

    assert taken is not None
    told = taken.callback
    assert (taken.id, taken.kind, told.received_at, told.assurance, told.headers, told.body, told.facts) == (
        capture.id,
        capture.kind,
        capture.received_at,
        capture.assurance,
        capture.headers,
        capture.body,
        FACTS,
    )
    assert told.credential == f"server.replay_tokens[{REPLAY_TOKENS.index(token)}]"


@given(
    st.lists(st.tuples(st.sampled_from(TOLD_NAMES).map(lambda name: f"partyline-{name}".encode()), st.binary())),
    st.binary() | st.sampled_from([token.encode() for token in REPLAY_TOKENS]),
    st.lists(st.text(alphabet=st.characters(codec=None)), max_size=2).map(tuple) | st.just(REPLAY_TOKENS),
)
def test_whatever_is_told_is_believed_or_refused(headers: Signed, token: bytes, tokens: tuple[str, ...]) -> None:
    """Any bytes give a repost or a refusal; what is told is looked at only where the token is right."""
    known = {each.encode("utf-8", "surrogatepass") for each in tokens if each}
    request = posted([*headers, (b"partyline-replay", token)])

    try:
        taken = reposted(request, MadeUpAccount(ALL), HARBOUR, NOW, tokens)
    except AuthenticationError:
        assert token not in known
    except ReplayMalformed:
        assert token in known
    else:
        assert taken is not None
        assert token in known


def test_a_request_without_a_token_is_no_repost() -> None:
    """What is told without a token is not even looked at: it is for the provider's own proof to decide."""
    headers = [(b"partyline-capture", b"\xff"), (b"partyline-received-at", b"never")]

    assert reposted(posted(headers), MadeUpAccount(ALL), HARBOUR, NOW, REPLAY_TOKENS) is None


def test_an_empty_replay_token_opens_nothing() -> None:
    """A token that came to be empty matches no empty one."""
    with pytest.raises(AuthenticationError):
        reposted(posted([(b"partyline-replay", b"")]), MadeUpAccount(ALL), HARBOUR, NOW, ("",))


def test_a_replay_token_is_never_among_the_headers_to_keep() -> None:
    """Neither of a callback, nor of what one of us asks."""
    headers = [(b"partyline-replay", b"new-Jetty-token-71"), (b"host", b"a")]

    assert stored_headers(arrival(headers), HARBOUR) == ((b"host", b"a"),)
    assert without_credentials(tuple(headers)) == ((b"host", b"a"),)
