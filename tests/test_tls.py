"""Redis by TLS. The Redis of the tests speaks none, so something that does stands before it, as stunnel would."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as Disconnected

from correlator.redis_client import connect
from tests.certificates import certificate

_CHUNK = 65536


@asynccontextmanager
async def terminating(socket: str, certificate_file: Path, key_file: Path) -> AsyncIterator[int]:
    """The port at which TLS is taken off and the rest handed to a unix socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the other side went away, which ends it just as well
    finally:
        writer.close()


async def test_redis_is_reached_by_tls_with_the_authority_named(redis_url: str, tmp_path: Path) -> None:
    """`rediss://` with `ssl_ca_certs` trusts that authority, and checks the server's name against it."""
    made = certificate(tmp_path, "redis")
    async with terminating(redis_url.removeprefix("unix://"), *made) as port:
        client = connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs={made[0]}", 5.0)
        answered = await client.ping()
        await client.aclose()

    assert answered is True


@pytest.mark.parametrize("trusted", ["another", None])
async def test_a_server_that_nobody_vouches_for_is_not_spoken_to(
    trusted: str | None, redis_url: str, tmp_path: Path
) -> None:
    """Another authority, or none but those of the system: no command is sent."""
    made = certificate(tmp_path, "redis")
    options = f"?ssl_ca_certs={certificate(tmp_path, trusted)[0]}" if trusted else ""
    async with terminating(redis_url.removeprefix("unix://"), *made) as port:
        client = connect(f"rediss://127.0.0.1:{port}{options}", 5.0)
        with pytest.raises(Disconnected, match="certificate verify failed"):
            await client.ping()
        await client.aclose()
