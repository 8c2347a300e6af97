"""The proxies whose configurations `deploy/` has, run as they are shipped but for what a user puts in as well."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import msgspec

from tests.certificates import certificate
from tests.processes import Process, started, until
from tests.programs import program
from tests.service import Connection

DEPLOY = Path(__file__).parent.parent / "deploy"
#: The name that the shipped configurations have.
HOST = "hooks.example.com"


class Place(msgspec.Struct, frozen=True):
    """What a running proxy of the tests needs to know."""

    folder: Path
    port: int
    upstream: str
    certificate: Path
    key: Path


class Kind(msgspec.Struct, frozen=True):
    """A proxy that a configuration is shipped for."""

    name: str
    config: Path
    #: What is put in the place of what, each of which stands there exactly once.
    filled_in: Callable[[Place], Mapping[str, str]]
    check: Callable[[str, Place], list[str]]
    run: Callable[[str, Place], list[str]]


def _nginx_filled_in(place: Place) -> Mapping[str, str]:
    temporary = "".join(
        f"    {name}_temp_path {place.folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return {
        "pid /run/nginx.pid;": f"pid {place.folder}/nginx.pid;",
        "worker_processes auto;": "worker_processes 1;",
        "access_log /var/log/nginx/access.log ": "access_log /dev/stdout ",
        "http {\n": f"http {{\n{temporary}",
        "listen 443 ssl default_server;": f"listen 127.0.0.1:{place.port} ssl default_server;",
        "listen 443 ssl; ": f"listen 127.0.0.1:{place.port} ssl; ",
        "server 127.0.0.1:8080;": f"server {place.upstream};",
        "/etc/ssl/partyline/fullchain.pem": str(place.certificate),
        "/etc/ssl/partyline/privkey.pem": str(place.key),
    }


def _caddy_filled_in(place: Place) -> Mapping[str, str]:
    return {
        "\tadmin off\n": "\tadmin off\n\tauto_https disable_redirects\n",
        f"\n{HOST} {{\n": (
            f"\nhttps://{HOST}:{place.port} {{\n\tbind 127.0.0.1\n\ttls {place.certificate} {place.key}\n"
        ),
        "reverse_proxy 127.0.0.1:8080 {": f"reverse_proxy {place.upstream} {{",
    }


NGINX = Kind(
    name="nginx",
    config=DEPLOY / "nginx.conf",
    filled_in=_nginx_filled_in,
    check=lambda program, place: [program, "-t", "-c", str(place.folder / "nginx.conf")],
    run=lambda program, place: [program, "-c", str(place.folder / "nginx.conf"), "-g", "daemon off;"],
)
CADDY = Kind(
    name="caddy",
    config=DEPLOY / "Caddyfile",
    filled_in=_caddy_filled_in,
    check=lambda program, place: [program, "validate", "--config", str(place.folder / "Caddyfile")],
    run=lambda program, place: [program, "run", "--config", str(place.folder / "Caddyfile")],
)
KINDS = (NGINX, CADDY)


def prepared(kind: Kind, folder: Path, upstream: str, changes: Mapping[str, str] | None = None) -> Place:
    """The shipped configuration, filled in, in a folder; with changes, each of which has its place there."""
    made = certificate(folder, "proxy", HOST)
    place = Place(folder, _free_port(), upstream, *made)
    text = kind.config.read_text()
    for before, after in {**kind.filled_in(place), **(changes or {})}.items():
        assert before in text, f"{kind.config.name} does not say {before!r}"
        text = text.replace(before, after)
    (folder / kind.config.name).write_text(text)
    return place


def _free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Proxy(msgspec.Struct, frozen=True):
    """A running proxy."""

    place: Place
    process: Process

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts."""
        return ssl.create_default_context(cafile=self.place.certificate)

    @asynccontextmanager
    async def client(self, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client of it, that connects from an address of this machine."""
        async with client_by_name(f"https://127.0.0.1:{self.place.port}", self.trust, address) as client:
            yield client

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A bare connection to it, within TLS."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.place.port, ssl=self.trust, server_hostname=HOST
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@asynccontextmanager
async def client_by_name(
    base_url: str, trust: ssl.SSLContext, address: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that goes to an address and asks for the name of the shipped configurations there."""
    transport = _Named(httpx.AsyncHTTPTransport(verify=trust, local_address=address))
    async with httpx.AsyncClient(base_url=base_url, headers={"host": HOST}, transport=transport, timeout=20) as client:
        yield client


class _Named(httpx.AsyncBaseTransport):
    """Shakes hands with the host's name, although it connects to an address."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Say the name, and pass it on."""
        request.extensions["sni_hostname"] = HOST
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what it passes on to."""
        await self._inner.aclose()


@asynccontextmanager
async def running_proxy(
    kind: Kind, folder: Path, upstream: str, changes: Mapping[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """A proxy that takes connections, and passes on to `upstream` (host and port)."""
    executable = program(kind.name)
    place = prepared(kind, folder, upstream, changes)
    environment = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with started(kind.run(executable, place), folder, kind.name, environment) as process:
        await until(lambda: _listens(place.port), f"{kind.name} listens")
        process.family()
        yield Proxy(place, process)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
