"""Files that hold secrets, and who may read them. Pure."""

import stat
from collections.abc import Iterator

import msgspec

from receiver.doctor.findings import Finding

TOPIC = "files"


class SecretFile(msgspec.Struct, frozen=True):
    """A file that a secret comes from, or the configuration itself where a secret stands in it."""

    #: Which setting says so, as in `accounts.main-telnyx.public_keys[0]`.
    setting: str
    path: str
    #: Its permission bits.
    mode: int


def judge(files: list[SecretFile]) -> Iterator[Finding]:
    """What there is to say about each."""
    for file in files:
        yield from _judge(file)
    if files and not any(file.mode & (stat.S_IRWXG | stat.S_IRWXO) for file in files):
        yield Finding("ok", TOPIC, "secrets", f"{len(files)} file(s) with secrets, for their owner alone")


def _judge(file: SecretFile) -> Iterator[Finding]:
    shown = f"{file.path} ({stat.S_IMODE(file.mode):04o})"
    todo = f"chmod 600 {file.path}, owned by the user that partyline runs as"
    if file.mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding("warning", TOPIC, file.setting, f"Others than its owner may write to {shown}", todo)
    elif file.mode & stat.S_IROTH:
        yield Finding("warning", TOPIC, file.setting, f"Every user of this host may read {shown}", todo)
    elif file.mode & stat.S_IRGRP:
        group = f"The file's group may read {shown}: right where that is partyline's own"
        yield Finding("note", TOPIC, file.setting, group, f"else {todo}")
