"""Whether we live, whether a callback could be stored right now, and the metrics that tell the same."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from math import nan
from typing import Any

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from correlator.scripts import answer
from receiver import metrics
from receiver.durability import connected_replicas
from receiver.keeping import Keeping
from receiver.spool import Fill
from schemas.errors import StoreError
from schemas.keyspace import Keyspace

_OPEN_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Whether we live, and whether a callback could be stored right now."""

    def __init__(
        self, places: Sequence[tuple[Redis, Keyspace]], keeping: Keeping, deadline_seconds: float, wait_replicas: int
    ) -> None:
        self._places = places
        self._keeping = keeping
        self._patience_seconds = deadline_seconds / 2
        self._wait_replicas = wait_replicas

    async def alive(self, _: Request) -> Response:
        """200 for as long as the process answers at all."""
        return JSONResponse({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """200 exactly when a callback can be stored; the components in the body."""
        status, components = await self._ask()
        return JSONResponse({"status": status, "components": components}, 200 if status == "ready" else 503)

    async def _ask(self) -> tuple[str, dict[str, dict[str, Any]]]:
        behind = self._keeping.some_wait
        redis, (spool, spools) = await self._ask_redis(), await self._ask_spool()
        status = "ready" if spools or (redis["status"] == "ok" and not behind) else "unavailable"
        return status, {"redis": redis, "spool": spool}

    async def _ask_redis(self) -> dict[str, Any]:
        gate = self._keeping.gate
        if not gate.accepted:
            return {"status": "unavailable", "detail": gate.why}
        try:
            async with asyncio.timeout(self._patience_seconds):
                # A write that changes nothing: a server that is full or read-only answers a PING all the same.
                for redis, keys in self._places:
                    await answer(redis.setrange(keys.bytes_of(keys.captures), 0, ""))
        except StoreError as error:
            return {"status": "unavailable", "detail": str(error)}
        except TimeoutError:
            return {"status": "unavailable", "detail": "Redis does not answer in time"}
        self._keeping.answered()
        return {"status": "ok"}

    async def _ask_spool(self) -> tuple[dict[str, Any], bool]:
        """How the spool is, and whether it takes captures."""
        fill, why = await self._measured()
        said: dict[str, Any] = {"status": "unavailable" if why else "ok", "max_bytes": self._keeping.max_bytes}
        if fill is not None:
            said |= {"captures": fill.rows, "bytes": fill.bytes, "oldest_seconds": _age(fill)}
        return said | ({"detail": why} if why else {}), not why

    async def measure(self, _: Request) -> Response:
        """Prometheus' text format."""
        status, components = await self._ask()
        metrics.READY.set(status == "ready")
        metrics.REDIS_USABLE.set(components["redis"]["status"] == "ok")
        metrics.REPLICAS_WANTED.set(self._wait_replicas)
        for redis, keys in self._places:
            connected = await self._replicas(redis) if components["redis"]["status"] == "ok" else None
            metrics.REPLICAS.labels(keys.partition).set(nan if connected is None else connected)
        return PlainTextResponse(metrics.render(), media_type=_OPEN_METRICS)

    async def _replicas(self, redis: Redis) -> int | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                return await connected_replicas(redis)
        return None

    async def _measured(self) -> tuple[Fill | None, str]:
        fill, why = await self._keeping.measure()
        metrics.SPOOL_USABLE.set(not why)
        metrics.SPOOL_MAX_BYTES.set(self._keeping.max_bytes)
        if fill is not None:
            metrics.SPOOL_ROWS.set(fill.rows)
            metrics.SPOOL_BYTES.set(fill.bytes)
            metrics.SPOOL_AGE_SECONDS.set(_age(fill))
        return fill, why


def _age(fill: Fill) -> float:
    """For how long the oldest capture has waited, in seconds."""
    return 0.0 if fill.oldest_at is None else max(0.0, round(time.time() - fill.oldest_at, 3))
