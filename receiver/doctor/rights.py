"""What the program's Redis user must be allowed to do, and whether it is. Pure.

Each command is tried within a transaction that is never executed: the server says at once whether the user may, and
nothing is done. So these are whole commands, on keys and channels of the namespace.
"""

from collections.abc import Collection, Iterator

from receiver.doctor.findings import Finding
from schemas.keyspace import Keyspace

TOPIC = "rights"

#: The transaction itself.
TRANSACTION = ("multi", "exec")
#: Needed only where `redis.wait_replicas` is set, and only in a cluster.
FOR_REPLICAS, FOR_CLUSTER = "wait", "cluster|slots"


def attempts(keyspace: Keyspace) -> dict[str, tuple[str, ...]]:
    """Each command as ACL rules name it, with one that could be sent."""
    key, channel = keyspace.cursor, keyspace.channel("message.received", "cv_")
    return {
        "ping": ("PING",),
        "info": ("INFO",),
        FOR_REPLICAS: ("WAIT", "0", "1"),
        "scan": ("SCAN", "0"),
        "type": ("TYPE", key),
        "exists": ("EXISTS", key),
        "del": ("DEL", key),
        "expire": ("EXPIRE", key, "1"),
        "pexpire": ("PEXPIRE", key, "1"),
        "pttl": ("PTTL", key),
        "get": ("GET", key),
        "set": ("SET", key, ""),
        "setrange": ("SETRANGE", key, "0", ""),
        "mget": ("MGET", key),
        "incr": ("INCR", key),
        "incrby": ("INCRBY", key, "1"),
        "decrby": ("DECRBY", key, "1"),
        "hget": ("HGET", key, "f"),
        "hset": ("HSET", key, "f", ""),
        "hsetnx": ("HSETNX", key, "f", ""),
        "hmget": ("HMGET", key, "f"),
        "hgetall": ("HGETALL", key),
        "hdel": ("HDEL", key, "f"),
        "hincrby": ("HINCRBY", key, "f", "1"),
        "hlen": ("HLEN", key),
        "sadd": ("SADD", key, "m"),
        "srem": ("SREM", key, "m"),
        "smembers": ("SMEMBERS", key),
        "zadd": ("ZADD", key, "0", "m"),
        "zrem": ("ZREM", key, "m"),
        "zrange": ("ZRANGE", key, "0", "0"),
        "zrangebylex": ("ZRANGEBYLEX", key, "-", "+"),
        "xadd": ("XADD", key, "*", "f", ""),
        "xdel": ("XDEL", key, "1-1"),
        "xlen": ("XLEN", key),
        "xread": ("XREAD", "STREAMS", key, "0"),
        "xrange": ("XRANGE", key, "-", "+"),
        "xrevrange": ("XREVRANGE", key, "+", "-"),
        "xtrim": ("XTRIM", key, "MINID", "1"),
        "xinfo": ("XINFO", "STREAM", key),
        "evalsha": ("EVALSHA", "0" * 40, "1", key),
        "script|load": ("SCRIPT", "LOAD", "return 1"),
        "publish": ("PUBLISH", channel, ""),
        "psubscribe": ("PSUBSCRIBE", keyspace.every_channel),
        "client|setname": ("CLIENT", "SETNAME", "partyline"),
        "config|get": ("CONFIG", "GET", "appendonly"),
        "acl|dryrun": ("ACL", "DRYRUN", "default", "PING"),
        FOR_CLUSTER: ("CLUSTER", "SLOTS"),
    }


def is_refusal(error: str) -> bool:
    """Whether an error of the server means that the user may not; redis-py cuts the code `NOPERM` off."""
    text = error.lower()
    return text.startswith("noperm") or "has no permissions to" in text or "no permissions to access" in text


def judge(denied: Collection[str], *, waits: bool, is_cluster: bool) -> Iterator[Finding]:
    """What there is to say about the commands that were refused.

    Args:
        denied: as ACL rules name them.
        waits: whether `redis.wait_replicas` is set.
        is_cluster: whether the server is found by asking nodes.
    """
    idle = {*(() if waits else (FOR_REPLICAS,)), *(() if is_cluster else (FOR_CLUSTER,))}
    lacking = sorted(set(denied) - idle)
    if lacking:
        rules = " ".join(f"+{name}" for name in lacking)
        refused = f"The Redis user may not do what partyline needs, on its keys and channels: {', '.join(lacking)}"
        todo = f"allow it {rules}, ~partyline:* and &partyline:*; deploy/users.acl has the whole list"
        yield Finding("mistake", TOPIC, "redis.url", refused, todo)
    else:
        yield Finding("ok", TOPIC, "redis.url", "The Redis user may do all that partyline needs")
