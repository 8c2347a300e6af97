"""The providers, found by name: every module of this package exports one `PROVIDER`."""

import importlib
import pkgutil

from receiver.provider import Provider

PROVIDERS: dict[str, Provider] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").PROVIDER
    for module in pkgutil.iter_modules(__path__)
}
