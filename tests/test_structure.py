"""The budgets and habits of the house, kept by counting."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import receiver.settings
from correlator.scripts import Scripts
from receiver.providers import PROVIDERS

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "correlator", "receiver")
MODULES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}
SCRIPTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "correlator/lua").glob("*.lua"))}

LONGEST_MODULE = 480
#: Longer ones, each with its own bound: a provider is one file, whatever it sends.
LONG_MODULES = {
    "receiver/providers/whatsapp.py": 940,
    "receiver/providers/sendblue.py": 700,
    "receiver/providers/telnyx.py": 600,
    "receiver/providers/sinch.py": 600,
}
USUAL_FUNCTION, LONGEST_FUNCTION = 30, 60
NO_CONCEPT = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "base", "core"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> dict[str, int]:
    """Every function and method with its length in lines, from `def` to its end."""
    return {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    }


def public(tree: ast.Module) -> Iterator[ast.ClassDef | Function]:
    """The public classes and functions of a module, and the public methods of such classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    member for member in node.body if isinstance(member, Function) and not member.name.startswith("_")
                )


# --- size -------------------------------------------------------------------------------------------------


def test_modules_are_short() -> None:
    """No module has more lines than the budget, but for the few that are named with their own."""
    too_long = {
        name: text.count("\n")
        for name, text in MODULES.items()
        if text.count("\n") > LONG_MODULES.get(name, LONGEST_MODULE)
    }

    assert too_long == {}


def test_functions_are_short() -> None:
    """Nine functions in ten have fewer than thirty lines, and none more than sixty."""
    lengths = functions()
    usual = [length for length in lengths.values() if length < USUAL_FUNCTION]

    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    assert len(usual) >= 0.9 * len(lengths)


def test_the_middle_function_has_ten_lines_at_most() -> None:
    """Most functions do one thing."""
    lengths = sorted(functions().values())

    assert lengths[len(lengths) // 2] <= 10


# --- names and words --------------------------------------------------------------------------------------


def test_modules_are_named_for_a_concept() -> None:
    """No module is called after not knowing what it holds."""
    assert {name for name in MODULES if Path(name).stem in NO_CONCEPT} == set()


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_documented(name: str) -> None:
    """Each module and each public class, function and method has a docstring that starts with a sentence."""
    tree = TREES[name]
    documented = [(name, ast.get_docstring(tree)), *((node.name, ast.get_docstring(node)) for node in public(tree))]

    assert [what for what, text in documented if not text or not re.search(r"[.:!?]$", text.split("\n\n")[0])] == []


@pytest.mark.parametrize("name", [*MODULES, *SCRIPTS])
def test_nothing_is_left_for_later(name: str) -> None:
    """No module or script has a note of what is still to do, or a piece that is not there yet."""
    text = MODULES.get(name) or SCRIPTS[name]

    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK|NotImplemented\w*)\b", text) == []


@pytest.mark.parametrize("name", MODULES)
def test_every_exception_from_the_linter_has_its_reason(name: str) -> None:
    """A `noqa` names its rule, and says why beside it."""
    lines = [line for line in MODULES[name].splitlines() if "noqa" in line]

    assert [line for line in lines if not re.search(r"# noqa: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \S", line)] == []


def test_no_error_is_swallowed() -> None:
    """No handler is bare, and none that catches everything is silent about it."""
    silent = [
        f"{name}:{handler.lineno}"
        for name, tree in TREES.items()
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (
            handler.type is None
            or (
                isinstance(handler.type, ast.Name)
                and handler.type.id in {"Exception", "BaseException"}
                and not any(isinstance(node, ast.Raise | ast.Call) for item in handler.body for node in ast.walk(item))
            )
        )
    ]

    assert silent == []


# --- what may know what -----------------------------------------------------------------------------------


def test_keys_are_spelled_in_one_file() -> None:
    """The prefix of every Redis key stands in the keyspace; the one other place shows it to people."""
    spelling = {name for name, text in MODULES.items() if "partyline:{" in text}

    assert spelling == {"schemas/keyspace.py", "receiver/settings/explaining.py"}
    assert [name for name, text in SCRIPTS.items() if "partyline:" in text] == []


def _pure() -> list[str]:
    """The modules that the import contracts hold to be pure."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [sources] = [item["source_modules"] for item in contracts if item["type"] == "forbidden"]
    paths = tuple(source.replace(".", "/") for source in sources)
    return [name for name in MODULES if name.startswith(tuple(f"{path}/" for path in paths)) or name[:-3] in paths]


def test_the_deciding_code_reads_no_clock() -> None:
    """Where decisions are made the time is an argument: nothing pure asks for it."""
    asking = [
        f"{name}:{node.lineno}"
        for name in _pure()
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today", "monotonic", "perf_counter"}
    ]

    assert len(_pure()) > 15
    assert asking == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_takes_and_returns(name: str) -> None:
    """Every Lua script opens with a sentence, its KEYS, its ARGV and what it returns, and is bound by its name."""
    opening = SCRIPTS[name].split("\n\n")[0]

    assert all(line.startswith("--") for line in opening.splitlines())
    assert re.match(r"-- [A-Z].*[.:]\n", opening)
    assert all(word in opening for word in ("\n-- KEYS  1 ", "\n-- ARGV  1 ", "\n-- Returns "))
    assert name in Scripts.__init__.__code__.co_names


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_asks_nobody_for_the_time(name: str) -> None:
    """Scripts decide by what they are given: no server time, no chance."""
    assert re.findall(r"'TIME'|'RANDOMKEY'|'SRANDMEMBER'|math\.random|os\.", SCRIPTS[name]) == []


# --- secrets ----------------------------------------------------------------------------------------------

#: What secrets, and what is held against them, are called where they are compared.
SECRET_WORDS = {
    *("sent", "known", "expected", "signature", "secret", "secrets", "credential", "credentials"),
    *("token", "tokens", "api_tokens", "replay_tokens", "url_token", "password", "presented"),
}
#: Comparisons with such words that tell nobody anything: of forms and names, none of one secret with another.
TELLING_NOTHING = {
    "receiver/authentication.py: header[0] not in secret",  # the names of secret headers
    "receiver/schemes.py: secret != secret.strip()",  # of the configuration, when it is read
}


def test_secrets_are_compared_in_constant_time() -> None:
    """Where requests prove themselves `compare_digest` alone compares, with every credential: no search ends early."""
    comparing = {
        (name, function.name): ast.unparse(comprehension)
        for name, tree in TREES.items()
        for function in ast.walk(tree)
        if isinstance(function, Function)
        for comprehension in ast.walk(function)
        if isinstance(comprehension, ast.ListComp) and "compare_digest(" in ast.unparse(comprehension)
    }
    calls = sum(text.count("compare_digest(") for text in MODULES.values())

    assert set(comparing) == {
        ("receiver/authentication.py", "_index_of"),
        ("receiver/authentication.py", "handshake"),
        ("receiver/schemes.py", "_match"),
    }
    assert calls == len(comparing)
    assert [text for text in comparing.values() if " if " in text or text.count(" for ") != 1] == []


def test_no_secret_is_compared_otherwise() -> None:
    """In the modules that hold requests against credentials, no `==` or `in` is between two things that are secret."""
    found = {
        f"{name}: {ast.unparse(node)}"
        for name in ("receiver/schemes.py", "receiver/authentication.py", "receiver/api.py", "receiver/webhooks.py")
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops)
        and not any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
        and not ast.unparse(node.left).startswith("len(")
        and SECRET_WORDS & _words(node)
    }

    assert found == TELLING_NOTHING


def _words(node: ast.AST) -> set[str]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


# --- public names -----------------------------------------------------------------------------------------


def _public_names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, ModuleType)]


def test_the_settings_export_what_they_say() -> None:
    """`receiver.settings` has a list of its public names, in order, and it is true."""
    assert receiver.settings.__all__ == sorted(receiver.settings.__all__)
    assert sorted(_public_names(receiver.settings)) == receiver.settings.__all__


def test_a_package_is_its_modules() -> None:
    """The packages' own `__init__` hold a docstring and no code, so importing one costs and does nothing."""
    assert [len(TREES[f"{package}/__init__.py"].body) for package in PACKAGES] == [1, 1, 1]


def test_a_provider_is_one_module_with_one_value() -> None:
    """Each provider's name is its module's, and the module ends with the exported value."""
    modules = {Path(name).stem: tree for name, tree in TREES.items() if name.startswith("receiver/providers/")}
    del modules["__init__"]
    last = {name: tree.body[-1] for name, tree in modules.items()}

    assert set(modules) == set(PROVIDERS)
    assert {name: provider.name for name, provider in PROVIDERS.items()} == {name: name for name in modules}
    assert all(
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PROVIDER"
        for node in last.values()
    )
