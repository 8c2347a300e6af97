"""The wheel and the source distribution, as somebody gets them: built, installed elsewhere, run there. Offline.

Dependencies come from the environment that runs the tests; what is tried is that everything of ours is in the packages.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.processes import client_of, embedded, ready, space_at, started, write_config
from tests.service import path, proof
from tests.traffic import telnyx

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "correlator", "receiver")
#: What has no place on a machine that runs the program.
OURS_ALONE = ("tests/", "deploy/", "schemas/documents/released/")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What a program says, which must end well."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PARTYLINE_", "PYTHON", "VIRTUAL"))}
    done = subprocess.run(
        command, cwd=cwd, env={**plain, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def build(source: Path, target: Path, kind: str) -> Path:
    """One distribution of a source tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target), cwd=source)
    [made] = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of this tree."""
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(source_distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built of nothing but the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(source_distribution) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = folder.iterdir()
    return build(unpacked, folder / "made", "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment that was empty, with the wheel in it; dependencies are seen from there, and nothing of ours."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=folder)
    binaries = folder / "venv/bin"
    run(str(binaries / "python"), "-m", "pip", "install", "--no-index", "--no-deps", str(wheel), cwd=folder)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    yield binaries
    shutil.rmtree(folder)


def of_packages() -> set[str]:
    """The files of the packages, but for what Python keeps beside them."""
    every = [each for package in PACKAGES for each in (ROOT / package).rglob("*")]
    return {str(each.relative_to(ROOT)) for each in every if each.is_file() and each.parent.name != "__pycache__"}


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    """Scripts in Lua, documents, typing marks; no tests, nothing that is deployed, no promises of earlier releases."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == {name for name in of_packages() if not name.startswith(OURS_ALONE)}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"correlator/lua/commit.lua", "correlator/lua/shared/stands.lua", "schemas/documents/openapi.json"} <= names


def test_the_source_distribution_has_what_testing_needs(source_distribution: Path) -> None:
    """Tests, fixtures, the lock file and the verbs, for whoever packages it anew."""
    with tarfile.open(source_distribution) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"Makefile", "requirements.lock", "README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py"} <= names
    assert any(re.match(r"tests/fixtures/telnyx/.*/body", name) for name in names)


def test_an_installed_program_explains_itself(installed: Path, tmp_path: Path) -> None:
    """`--help`, its version, and its modules from the wheel, not from this tree."""
    said = run(str(installed / "partyline"), "--help", cwd=tmp_path)
    version = run(str(installed / "partyline"), "--version", cwd=tmp_path)
    where = "import receiver, correlator, schemas; print(receiver.__file__, correlator.__file__, schemas.__file__)"
    modules = run(str(installed / "python"), "-c", where, cwd=tmp_path).split()

    assert all(word in said for word in ("serve", "check", "doctor", "keys", "providers", "tail"))
    assert re.fullmatch(r"partyline [0-9]+\.[0-9]+\.[0-9]+, Python 3\.[0-9]+\.[0-9]+\n", version)
    assert [module for module in modules if not module.startswith(str(installed.parent))] == []


def test_an_installed_program_checks_what_it_made_itself(installed: Path, tmp_path: Path) -> None:
    """Credentials made by `keys` are a configuration that `check` takes; `providers` finds what was learned."""
    program = str(installed / "partyline")
    lines = run(program, "keys", "sendblue", "--id-key", cwd=tmp_path)
    (tmp_path / "partyline.toml").write_text(lines)

    assert "no mistakes, 0 warning(s)" in run(program, "check", cwd=tmp_path)
    assert json.loads(run(program, "providers", "telnyx", "--json", cwd=tmp_path))["callbacks"]


async def test_an_installed_program_serves(installed: Path, folder: Path, namespace: str) -> None:
    """A callback goes through its HTTP side, its scripts and its pipeline; its documents are served."""
    config = write_config(folder, namespace, redis=embedded(folder / "data"))
    command = [str(installed / "partyline"), "serve", "--config", str(config)]
    url = f"unix://{folder / 'data'}/redis.sock"
    with started(command, folder, "installed", {"PYTHONPATH": ""}) as process:
        base = (await process.says(r"listens on (http://\S+)", 60))[1]
        process.family()
        async with client_of(base) as client, space_at(url, namespace) as space:
            await ready(client, process, 60)
            answer = await _posted(client)
            document = await client.get("/openapi.json")
            await space.worked_off()
            events = await space.events()

    assert answer.status_code == 200
    assert document.json()["openapi"].startswith("3.1")
    assert [event["type"] for event in events] == ["message.received"]


async def _posted(client: httpx.AsyncClient) -> httpx.Response:
    body = telnyx("one")
    return await client.post(path("telnyx"), content=body, headers=proof("telnyx", body, now=datetime.now(UTC)))


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_newer_pythons_read_every_module(wheel: Path, tmp_path: Path, version: str) -> None:
    """Where such a Python is at hand, it compiles all that is in the wheel without a warning."""
    python = newer(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)

    assert run(python, "-W", "error", "-m", "compileall", "-q", str(tmp_path), cwd=tmp_path) == ""


def newer(version: str) -> str | None:
    """A Python of that version that works: on the PATH, or where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in [*sorted(kept.glob(f"{version}.*/bin/python")), Path(shutil.which(f"python{version}") or "/none")]:
        if python.exists():
            done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
                return str(python)
    return None
