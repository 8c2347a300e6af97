"""The try-out: a whole service with nothing set up, one account per provider, and a sample conversation through it."""

import secrets
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.samples import LINE

_CONFIG = "tryout.toml"
_TELNYX_KEY = "telnyx-signing-key"

_TEMPLATE = """\
# Made by `partyline try`: generated credentials, good for this machine only. Delete the file to have new ones.
namespace = "tryout"
id_key = "{id_key}"

[redis]
url = "embedded"
data_dir = "{data_dir}"
durability = "always"

[accounts.try-telnyx]
provider = "telnyx"
public_keys = ["{telnyx}"]
lines = ["{line}"]

[accounts.try-sendblue]
provider = "sendblue"
secrets = ["{sendblue}"]
lines = ["{line}"]

[accounts.try-sinch]
provider = "sinch"
secrets = ["{sinch}"]
lines = ["{line}"]
default_line = "{line}"
on_unauthentic = "defer"

[accounts.try-whatsapp]
provider = "whatsapp"
app_secrets = ["{whatsapp}"]
verify_tokens = ["{verify}"]
lines = ["{line}"]
"""


def prepare(folder: Path) -> Path:
    """The try-out's configuration file, made with fresh credentials the first time."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / _CONFIG
    if not config.exists():
        seed = secrets.token_bytes(32)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        _write_private(folder / _TELNYX_KEY, b64encode(seed).decode() + "\n")
        text = _TEMPLATE.format(
            id_key=secrets.token_urlsafe(32),
            data_dir=folder,
            telnyx=b64encode(public).decode(),
            sendblue=secrets.token_urlsafe(24),
            sinch=secrets.token_urlsafe(24),
            whatsapp=secrets.token_hex(16),
            verify=secrets.token_urlsafe(16),
            line=LINE,
        )
        _write_private(config, text)
    return config


def telnyx_seed(folder: Path) -> str | None:
    """The private key that goes with the try-out's public key; None where no try-out was made."""
    file = folder / _TELNYX_KEY
    return file.read_text(encoding="ascii").strip() if file.exists() else None


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
