"""`partyline providers`: what is supported, as the code itself has it."""

import inspect
from importlib.resources import files
from typing import Annotated, Any

import msgspec
import orjson
import typer

from receiver.cli.output import readable_output
from receiver.cli.terminal import out
from receiver.documents.reading import FILE, Reading
from receiver.provider import Provider, Scheme
from receiver.providers import PROVIDERS
from receiver.tables import columns
from schemas.errors import PartylineError


def providers(
    name: Annotated[str | None, typer.Argument(metavar="[PROVIDER]", help="One of them, with all its fields.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="JSON, one provider a line.")] = False,
) -> None:
    """Say what is supported: how each provider proves itself, which callbacks it sends, and what becomes of them.

    Fields are learned from the parsers, on real callbacks' shapes: what is not listed may still be read.

    Example: partyline providers telnyx
    """
    if name is not None and name not in PROVIDERS:
        raise PartylineError(f"{name}: no such provider; there are {', '.join(sorted(PROVIDERS))}")
    chosen = [PROVIDERS[each] for each in sorted(PROVIDERS) if name in {None, each}]
    readings = learned_readings()
    with readable_output():
        for provider in chosen:
            said = described(provider, readings[provider.name])
            if json:
                out.file.write(f"{orjson.dumps(said).decode()}\n")
            else:
                out.file.write(_page(said, whole=name is not None))


def learned_readings() -> dict[str, Reading]:
    """What was learned from each provider's parser, by its name."""
    return msgspec.json.decode((files("receiver.documents") / FILE).read_bytes(), type=dict[str, Reading])


def described(provider: Provider, reading: Reading) -> dict[str, Any]:
    """All that is told of a provider."""
    return {
        "provider": provider.name,
        "what": _first_sentence(inspect.getmodule(provider.parse)),
        "schemes": [_scheme(scheme) for scheme in provider.schemes],
        "handshake": provider.handshake_setting,
        "callbacks": reading.callbacks,
        "sends": reading.sends,
        "states": dict(provider.words),
        "fields": reading.fields,
    }


def _scheme(scheme: Scheme) -> dict[str, str]:
    return {"setting": scheme.setting, "assurance": scheme.assurance, "how": _first_sentence(type(scheme))}


def _first_sentence(documented: object) -> str:
    """The first sentence of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")


def _page(said: dict[str, Any], *, whole: bool) -> str:
    rows = [("proved by", each["setting"], f"{each['how']} ({each['assurance']})") for each in said["schemes"]]
    if said["handshake"]:
        rows.append(("handshake", said["handshake"], "GET, answered with its challenge"))
    rows += [("callback", word, ", ".join(types)) for word, types in said["callbacks"].items()]
    rows += [("registered send", word, ", ".join(types)) for word, types in said["sends"].items()]
    if whole:
        rows += [("state", word, ours) for word, ours in said["states"].items()]
        for event_type, fields in said["fields"].items():
            rows += [(event_type, ours, ", ".join(theirs)) for ours, theirs in fields.items()]
    return f"{said['provider']}: {said['what']}\n\n{columns(rows)}\n"
