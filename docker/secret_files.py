"""The files that compose hands to the services as secrets: one for each, made from `.env`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from env_file import write_private

OBJECT_STORE = "OBJECT_STORE.env"
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")


def write_secrets(folder: Path, secrets: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Write a file for each secret, and one for the object store, which `settings` may name.

    Only the owner enters the folder. The files in it are for everybody to read, since a container
    sees its own files alone, and reads them as a user whom this host does not know.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for name, text in {**secrets, OBJECT_STORE: _of_object_store(settings)}.items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            write_private(file, text, mode=0o444)


def _of_object_store(settings: Mapping[str, str]) -> str:
    """Return the settings that the clients of object stores read by themselves, one a line."""
    names = sorted(name for name in settings if name.startswith(_PREFIXES))
    return "".join(f"{name}={settings[name]}\n" for name in names)


def fingerprint(folder: Path) -> str:
    """Return a hash of all secrets."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(f"{file.name}={file.read_text()}\0".encode())
    return digest.hexdigest()
