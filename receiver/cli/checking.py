"""`partyline check`: what a configuration does, before it does it."""

import os

from rich.markup import escape

from receiver.cli.terminal import LEVELS, ConfigOption, config_path, out
from receiver.settings import explain, load
from receiver.spool_file import refuse_unwritable
from schemas.errors import ConfigError, StoreError


def check(config: ConfigOption = None) -> None:
    """Read a configuration, say every mistake in it, and explain what it does.

    Example: partyline check --config partyline.toml
    """
    path = config_path(config)
    settings = load(path, os.environ)
    try:
        refuse_unwritable(settings.spool.dir)
    except StoreError as error:
        raise ConfigError([str(error)]) from None
    rows = explain(settings)
    width = max(len(row.path) for row in rows)
    for row in rows:
        padding = " " * (len("warning") - len(row.level))
        out.print(f"{LEVELS[row.level]}{padding}  {escape(row.path):<{width}}  {escape(row.sentence)}")
    warnings = sum(row.level == "warning" for row in rows)
    out.print(f"\n{path}: no mistakes, {warnings} warning(s).")
