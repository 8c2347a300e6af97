"""What this host tells: the folder of the spool, and the files that hold secrets. Nothing is changed."""

import os
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from receiver.doctor.files import SecretFile
from receiver.doctor.spooling import Disk
from receiver.providers import PROVIDERS
from receiver.settings import Settings
from receiver.settings.loading import secret_settings
from receiver.spool import Spool
from receiver.spool_file import refuse_unwritable, set_aside
from schemas.errors import StoreError

_MOUNTS = Path("/proc/self/mounts")
_REFERENCE = "file:"
#: Settings that hold a secret where no reference stands instead; whoever reads a public key learns nothing.
_SECRET = secret_settings(PROVIDERS.values()) - {"public_keys"}


# --- the spool --------------------------------------------------------------------------------------------


def look_at_spool(settings: Settings) -> Disk:
    """How the folder of the spool is. StoreError where a spool is there and cannot be read."""
    try:
        refuse_unwritable(settings.spool.dir)
    except StoreError as error:
        return Disk(unusable=str(error).removeprefix("spool.dir: "))
    place = _existing(settings.spool.dir)
    captures, held, oldest_at = _waiting(settings)
    is_embedded = settings.redis.url == "embedded"
    return Disk(
        free_bytes=shutil.disk_usage(place).free,
        kind=file_system(place),
        shared_with_redis=is_embedded and place.stat().st_dev == _existing(settings.redis.data_dir).stat().st_dev,
        captures=captures,
        bytes=held,
        oldest_seconds=0.0 if oldest_at is None else max(0.0, time.time() - oldest_at),
        damaged=tuple(map(str, set_aside(settings.spool.dir, settings.namespace))),
    )


def _existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def _waiting(settings: Settings) -> tuple[int, int, float | None]:
    """How many captures wait, their bytes, and since when the oldest does. No spool is made where there is none."""
    spool = Spool(settings)
    if not spool.path.exists():
        return 0, 0, None
    try:
        fill = spool.fill()
    finally:
        spool.close()
    return fill.rows, fill.bytes, fill.oldest_at


def file_system(place: Path) -> str:
    """The kernel's word for the file system of a folder; empty where it does not tell."""
    try:
        mounts = [line.split()[:3] for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except OSError:  # no /proc here
        return ""
    real = place.resolve()
    found = [(len(at), kind) for _, at, kind in mounts if real.is_relative_to(at.replace("\\040", " "))]
    return max(found)[1] if found else ""


# --- files with secrets -----------------------------------------------------------------------------------


def look_at_files(config: Path, environ: Mapping[str, str]) -> list[SecretFile]:
    """The files that secrets come from, and the configuration itself where a secret stands in it.

    The configuration was read before without a mistake; a file that has gone since is left out.
    """
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    texts = list(_texts(document, ""))
    set_here = [(name, text) for name, text in sorted(environ.items()) if name.startswith("PARTYLINE_")]
    named = [
        (setting, config.parent / text.removeprefix(_REFERENCE))
        for setting, text in [*texts, *set_here]
        if text.startswith(_REFERENCE)
    ]
    if any(_is_literal(setting, text) for setting, text in texts):
        named.append(("the configuration", config))
    return [SecretFile(setting, str(path), path.stat().st_mode) for setting, path in named if os.access(path, os.R_OK)]


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a document, by its key path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")


def _is_literal(setting: str, text: str) -> bool:
    """Whether a secret itself stands there; a URL is one where it holds a password."""
    name = setting.rpartition(".")[2].partition("[")[0]
    is_secret = name in _SECRET and not text.startswith((_REFERENCE, "env:"))
    return is_secret and (name != "url" or "@" in text)
