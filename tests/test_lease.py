"""The lease, over a real Redis."""

import asyncio

import pytest
from redis.asyncio import Redis

from correlator.lease import Lease
from schemas.errors import StoreError
from schemas.keyspace import Keyspace


@pytest.fixture
def ours(redis: Redis, keyspace: Keyspace) -> Lease:
    """A pipeline's lease."""
    return Lease(redis, keyspace, 30)


@pytest.fixture
def theirs(redis: Redis, keyspace: Keyspace) -> Lease:
    """Another pipeline's."""
    return Lease(redis, keyspace, 30)


async def test_one_pipeline_at_a_time_holds_it(ours: Lease, theirs: Lease) -> None:
    """While one holds the lease, no other gets it."""
    assert await ours.take() is True
    assert await theirs.take() is False


async def test_of_many_that_want_it_at_once_one_gets_it(redis: Redis, keyspace: Keyspace) -> None:
    """Taking is one step: however many try together, exactly one succeeds, and the key holds its token."""
    leases = [Lease(redis, keyspace, 30) for _ in range(20)]
    taken = await asyncio.gather(*(lease.take() for lease in leases))
    [holder] = [lease for lease, success in zip(leases, taken, strict=True) if success]

    assert await redis.get(keyspace.lease) == holder.token.encode()


async def test_who_did_not_get_it_has_no_token(ours: Lease, theirs: Lease) -> None:
    """A pipeline without the lease has nothing to commit with."""
    await ours.take()
    await theirs.take()

    assert theirs.token == ""


async def test_each_taking_has_a_token_of_its_own(ours: Lease) -> None:
    """A pipeline that lost the lease and took it again cannot be mistaken for its former self."""
    await ours.take()
    first = ours.token
    await ours.give_up()
    await ours.take()

    assert len(first) == len(ours.token) == 32
    assert first != ours.token


async def test_it_runs_out_by_itself(redis: Redis, keyspace: Keyspace, theirs: Lease) -> None:
    """A pipeline that died keeps others out for the lease's time and no longer."""
    short = Lease(redis, keyspace, 0.05)
    await short.take()

    assert await theirs.take() is False
    await asyncio.sleep(0.06)
    assert await theirs.take() is True


async def test_renewing_prolongs_it(redis: Redis, keyspace: Keyspace, ours: Lease) -> None:
    """A renewed lease lasts its whole time again."""
    await ours.take()
    await redis.pexpire(keyspace.lease, 50)

    assert await ours.renew() is True
    assert await redis.pttl(keyspace.lease) > 29_000


async def test_a_lost_lease_cannot_be_renewed(redis: Redis, keyspace: Keyspace, theirs: Lease) -> None:
    """Renewing a lease that ran out says so, and leaves the new holder's alone."""
    short = Lease(redis, keyspace, 0.02)
    await short.take()
    await asyncio.sleep(0.03)

    assert await short.renew() is False
    assert await redis.exists(keyspace.lease) == 0

    await theirs.take()
    assert await short.renew() is False
    assert await redis.get(keyspace.lease) == theirs.token.encode()
    assert await redis.pttl(keyspace.lease) > 29_000


async def test_giving_it_up_lets_the_next_one_in_at_once(ours: Lease, theirs: Lease) -> None:
    """A pipeline that stops in order costs no waiting."""
    await ours.take()
    await ours.give_up()

    assert await theirs.take() is True
    assert ours.token == ""


async def test_giving_up_a_lost_one_takes_nothing_from_anybody(redis: Redis, keyspace: Keyspace, theirs: Lease) -> None:
    """A pipeline that stops after it lost the lease does not end the new holder's."""
    short = Lease(redis, keyspace, 0.02)
    await short.take()
    await asyncio.sleep(0.03)
    await theirs.take()
    await short.give_up()

    assert await redis.get(keyspace.lease) == theirs.token.encode()


async def test_who_never_took_it_neither_renews_nor_ends_it(redis: Redis, keyspace: Keyspace, ours: Lease) -> None:
    """Without a token nothing can be done to a lease, nor to a missing one."""
    assert await ours.renew() is False
    await ours.give_up()
    await Lease(redis, keyspace, 30).take()
    assert await ours.renew() is False
    await ours.give_up()

    assert await redis.exists(keyspace.lease) == 1


async def test_namespaces_have_leases_of_their_own(redis: Redis, ours: Lease, namespace: str) -> None:
    """The lease of one namespace, or one partition, is no obstacle in another."""
    await ours.take()

    assert await Lease(redis, Keyspace(f"{namespace}-2"), 30).take() is True
    assert await Lease(redis, Keyspace(namespace, 1), 30).take() is True


async def test_redis_away_is_a_store_error(keyspace: Keyspace) -> None:
    """When Redis does not answer, every call says StoreError."""
    nowhere = Redis.from_url("unix:///nonexistent/redis.sock")
    lease = Lease(nowhere, keyspace, 30)
    for call in (lease.take, lease.renew, lease.give_up):
        with pytest.raises(StoreError, match="Redis: ConnectionError"):
            await call()
    await nowhere.aclose()
