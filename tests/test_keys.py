"""`partyline keys`: what it makes can be used at once, cannot be guessed, and never replaces anything."""

import tomllib
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.credentials import MAKERS, settings_of
from receiver.doctor.configuration import judge_secret, secrets
from receiver.doctor.looking import look_at_files
from receiver.providers import PROVIDERS
from receiver.settings import parse
from tests.command_line import Run, command_line


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Run:
    """`partyline keys`, run to its end in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capfdbinary, "keys")


def test_every_setting_of_every_provider_has_its_maker() -> None:
    """No provider is left out, and nothing is made that nobody takes."""
    assert {setting for provider in PROVIDERS.values() for setting in settings_of(provider)} == set(MAKERS)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_what_is_made_is_a_configuration(run: Run, provider: str) -> None:
    """The lines are TOML without a mistake, with one value for each credential that nobody can guess."""
    ended = run(provider, "--id-key", "--account", "trial-1")
    settings = parse(tomllib.loads(ended.out), {}, Path())
    account = settings.accounts["trial-1"]

    assert ended.status == 0
    assert list(account.credentials) == settings_of(PROVIDERS[provider])
    assert {len(values) for values in account.credentials.values()} == {1}
    assert [finding for path, secret in secrets(settings) for finding in judge_secret(path, secret)] == []
    assert len(settings.id_key) == 32
    assert run(provider).out != run(provider).out


def test_the_private_key_is_the_public_ones(run: Run) -> None:
    """What is signed with the seed in the comment is accepted by the key in the line."""
    lines = run("telnyx").out.splitlines()
    [seed] = [line.rpartition(" ")[2] for line in lines if "private key" in line]
    [public] = tomllib.loads("\n".join(lines))["accounts"]["main-telnyx"]["public_keys"]

    key = Ed25519PrivateKey.from_private_bytes(b64decode(seed))
    assert key.public_key().public_bytes_raw() == b64decode(public)


def test_the_url_to_give_a_provider_has_the_token(run: Run) -> None:
    """A URL token is told within its URL, for copying."""
    said = run("sendblue", "--only", "url_tokens").out
    account = tomllib.loads(said)["accounts"]["main-sendblue"]

    assert set(account) == {"provider", "url_tokens", "lines"}
    assert f"/webhooks/sendblue/main-sendblue/{account['url_tokens'][0]}\n" in said


def test_secrets_in_files_are_for_their_owner_alone(run: Run, tmp_path: Path) -> None:
    """Lines name files, no secret is printed, the configuration can be used, and nobody else may read them."""
    ended = run("whatsapp", "--id-key", "--write", "secrets")
    config = tmp_path / "partyline.toml"
    config.write_text(ended.out)
    settings = parse(tomllib.loads(ended.out), {}, tmp_path)
    files = look_at_files(config, {})

    assert {Path(each.path).name for each in files} == {
        "id-key",
        "main-whatsapp-app_secrets",
        "main-whatsapp-verify_tokens",
    }
    assert {each.mode & 0o777 for each in files} == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert [secret for _, secret in secrets(settings) if secret in ended.out] == []


def test_a_secret_url_is_not_printed_when_secrets_are_in_files(run: Run, tmp_path: Path) -> None:
    """The advice about a URL token, or a private key, leaves it out as well."""
    out = run("sendblue", "--write", "secrets").out + run("telnyx", "--write", "secrets").out

    assert [file.name for file in (tmp_path / "secrets").iterdir() if file.read_text().strip() in out] == []
    assert "main-telnyx-public_keys-private has the private key" in out


def test_nothing_is_ever_written_over(run: Run, tmp_path: Path) -> None:
    """One file that is there, and none is written: what stood there stands there."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/main-sendblue-url_tokens").write_text("mine")
    ended = run("sendblue", "--write", "secrets")

    assert (ended.status, ended.out) == (1, "")
    assert "never written over: secrets/main-sendblue-url_tokens" in ended.err
    assert [each.read_text() for each in (tmp_path / "secrets").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a provider, or say --id-key"),
        (("twilio",), "no such provider; there are sendblue, sinch, telnyx, whatsapp"),
        (("telnyx", "--only", "secrets"), "telnyx has public_keys"),
        (("telnyx", "--account", 'a"]'), "1 to 64 of a-z, 0-9 and -"),
        (("telnyx", "--write", "/proc/none"), "--write: /proc/none"),
    ],
)
def test_what_cannot_be_made_is_told(run: Run, words: tuple[str, ...], said: str) -> None:
    """Each with what there is instead."""
    ended = run(*words)

    assert (ended.status, said in ended.err) == (1, True)
