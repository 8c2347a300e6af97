"""What the HTTP routes take and answer, as types. Pure.

Answers are written where they are made; these types say what comes out, the OpenAPI document is made of them, and the
client of `/v1` reads with them.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from receiver.registration import Registered
from schemas import published
from schemas.published import Key, Sequence

Component = Literal["ok", "unavailable"]


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not answered as asked: RFC 9457."""

    type: str
    title: str
    status: int
    #: A stable word for why.
    reason: str
    #: What to look at, for people; never a secret.
    detail: str


# --- callbacks --------------------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A callback is on disk, and will be published or kept aside."""

    #: `quarantined`: it failed its check, at an account that keeps such requests aside.
    status: Literal["captured", "quarantined"]
    #: The id of the capture, for another receiver that posts it here.
    capture: str | UnsetType = UNSET


class Handshake(msgspec.Struct, frozen=True, rename="hub.{}".format):
    """What a provider that is told of a URL asks it first."""

    #: `subscribe`.
    mode: str
    #: One of the account's `verify_tokens`.
    verify_token: str
    #: Answered as it is.
    challenge: str


# --- /v1 --------------------------------------------------------------------------------------------------


class Registration(msgspec.Struct, frozen=True):
    """A send of yours is captured."""

    #: The id of the capture.
    capture: str
    #: What it is of, from the body alone: keys may be provisional, or merged by now; they resolve like any other.
    conversations: tuple[Registered, ...]


class Linked(msgspec.Struct, frozen=True):
    """A person's word is captured."""

    #: The id of the capture.
    capture: str


class Conversation(published.Conversation, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one conversation."""

    #: Provider and account, as in `telnyx/main-telnyx`.
    account: str
    #: The sequence of its latest event, 16 digits.
    sequence: Sequence
    #: Every key that resolves to this one.
    merged: tuple[Key, ...]
    #: The provider's own ids of it.
    ids: dict[str, Any]


class Found(msgspec.Struct, frozen=True):
    """One page of conversations."""

    conversations: tuple[Conversation, ...]
    #: Hand it in for the next page; null: this is the last.
    after: str | None


# --- health -----------------------------------------------------------------------------------------------


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"]


class State(msgspec.Struct, frozen=True):
    """How one component is."""

    status: Component
    #: Why it is not ok, for people.
    detail: str | UnsetType = UNSET
    #: Of the spool: how many captures wait in it, their bytes, for how long the oldest has waited; and its `max`.
    captures: int | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    oldest_seconds: float | UnsetType = UNSET
    max_bytes: int | UnsetType = UNSET


class Ready(msgspec.Struct, frozen=True):
    """A callback can be stored right now."""

    status: Literal["ready"]
    components: dict[str, State]


class NotReady(msgspec.Struct, frozen=True):
    """A callback cannot be stored right now."""

    status: Literal["unavailable"]
    components: dict[str, State]
