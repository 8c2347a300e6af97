"""What tests share: a real Redis of their own, and a namespace of its own for each test."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import pytest
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis

from correlator.redis_client import connect
from receiver.embedded import EmbeddedRedis
from schemas.keyspace import Keyspace
from tests.processes import write_config

hypothesis_settings.register_profile("tests", deadline=None, max_examples=100, print_blob=True)
hypothesis_settings.register_profile("deep", deadline=None, max_examples=5000, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("PARTYLINE_HYPOTHESIS", "tests"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a real Redis, append-only with fsync always, that lives as long as the session."""
    with (
        tempfile.TemporaryDirectory(prefix="partyline-test-") as folder,
        EmbeddedRedis(Path(folder)) as embedded,
    ):
        yield embedded.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of it."""
    client = connect(redis_url, 5.0)
    yield client
    await client.aclose()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="partyline-t-") as name:
        yield Path(name)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t-{token_hex(6)}"


@pytest.fixture
def keyspace(namespace: str) -> Keyspace:
    """The keys of it."""
    return Keyspace(namespace)


@pytest.fixture
def configured(folder: Path, namespace: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration of the test's namespace in it."""
    write_config(folder, namespace, redis={"url": redis_url})
    monkeypatch.chdir(folder)
    return folder
