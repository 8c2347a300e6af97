"""`partyline keys`: credentials for developing with, as lines for the configuration."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from receiver.cli.terminal import out
from receiver.credentials import Credential, credential, settings_of, token
from receiver.provider import Provider
from receiver.providers import PROVIDERS
from schemas.errors import PartylineError

_NAME = re.compile("[a-z0-9-]{1,64}")


def keys(
    provider: Annotated[
        str | None, typer.Argument(metavar="[PROVIDER]", help=f"One of {', '.join(sorted(PROVIDERS))}.")
    ] = None,
    *,
    account: Annotated[str | None, typer.Option(help="The account's name; main-PROVIDER if left out.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="SETTING", help="Only this setting's; may be repeated.")
    ] = None,
    id_key: Annotated[bool, typer.Option("--id-key", help="Make an id_key.")] = False,
    write: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Put secrets into files there, for your eyes alone.")
    ] = None,
) -> None:
    """Make credentials: lines for partyline.toml on stdout, and what to tell the provider as comments in them.

    With --write the secrets are in files and the lines name these; a file that is there is never written over.

    Example: partyline keys sendblue --write secrets >> partyline.toml
    """
    if provider is None and not id_key:
        raise PartylineError("nothing to make: name a provider, or say --id-key")
    made: list[Credential] = []
    name = account or f"main-{provider}"
    if not _NAME.fullmatch(name):
        raise PartylineError("--account: a name is 1 to 64 of a-z, 0-9 and -; it stands in the account's URL")
    if provider is not None:
        found = _provider(provider)
        made = [credential(found, name, setting) for setting in _wanted(found, only)]
    files = _Files(write)
    lines = _id_key_lines(files) if id_key else []
    if provider is not None:
        lines += _account_lines(provider, name, made, files)
    files.write()
    out.file.write("\n".join([*lines, ""]))


def _provider(name: str) -> Provider:
    if name not in PROVIDERS:
        raise PartylineError(f"{name}: no such provider; there are {', '.join(sorted(PROVIDERS))}")
    return PROVIDERS[name]


def _wanted(provider: Provider, only: list[str] | None) -> list[str]:
    every = settings_of(provider)
    if wrong := sorted(set(only or ()) - set(every)):
        raise PartylineError(f"--only: {', '.join(wrong)}: {provider.name} has {', '.join(every)}")
    return [setting for setting in every if not only or setting in only]


def _id_key_lines(files: "_Files") -> list[str]:
    return [
        "# Fixed for the life of a namespace: keep it safe and back it up. It belongs above the first [section].",
        f'id_key = "{files.reference("id-key", token())}"',
        "",
    ]


def _account_lines(provider: str, name: str, made: list[Credential], files: "_Files") -> list[str]:
    lines = [f"[accounts.{name}]", f'provider = "{provider}"']
    for each in made:
        # Advice that repeats a secret would undo the file that it is in.
        advice = each.advice if files.folder is None else each.advice.replace(each.value, "…")
        lines += [f"# {advice}", *_counterpart(each, f"{name}-{each.setting}", files)]
        lines.append(f'{each.setting} = ["{files.reference(f"{name}-{each.setting}", each.value)}"]')
    return [*lines, "lines = []  # your own numbers", ""]


def _counterpart(made: Credential, name: str, files: "_Files") -> list[str]:
    if not made.counterpart:
        return []
    if files.folder is None:
        return [f"# {made.counterpart}"]
    return [f"# {files.reference(f'{name}-private', made.counterpart.rpartition(' ')[2])} has the private key"]


class _Files:
    """Secrets that go into files, all of them or none; or, without a folder, into the lines themselves."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._texts: dict[Path, str] = {}

    def reference(self, name: str, value: str) -> str:
        """What stands in the configuration for a value."""
        if self.folder is None:
            return value
        path = self.folder / name
        self._texts[path] = value
        return f"file:{path}"

    def write(self) -> None:
        """Write all of them, for their owner alone. PartylineError where one is there, and then none is written."""
        if there := [str(path) for path in self._texts if path.exists()]:
            raise PartylineError(f"--write: never written over: {', '.join(there)}; remove it, or take another folder")
        try:
            for path, text in self._texts.items():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(f"{text}\n")
        except OSError as error:
            raise PartylineError(f"--write: {error.filename}: {error.strerror}") from error
