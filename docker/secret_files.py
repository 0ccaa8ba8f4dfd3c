"""The files that compose hands to the services as secrets: one for each, made from `.env`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from compose_command import StackError
from env_file import write_private

# Where containers find them.
_MOUNT = "/run/secrets/"
# Variables that a service gets as one secret, by the file's name and the beginning of theirs.
_VARIABLES = {
    "OBJECT_STORE.env": ("AWS_", "AZURE_", "GOOGLE_"),
    "ALERTS.env": ("MF_ALERT_WEBHOOK",),
}


def write_secrets(folder: Path, secrets: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Write a file for each secret, and those that hold variables of `settings`.

    Only the owner enters the folder. The files in it are for everybody to read, since a container
    sees its own files alone, and reads them as a user whom this host does not know.

    Raises:
        StackError: a secret is empty, or its place is taken.
    """
    if empty := sorted(name for name, text in secrets.items() if not text):
        raise StackError(
            f"expected a value for {', '.join(empty)}, found an empty one: the environment goes "
            "before .env, so take the variable out of it, or give it a value"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    variables = {name: _lines(settings, begin) for name, begin in _VARIABLES.items()}
    for name, text in {**secrets, **variables}.items():
        file = folder / name
        if file.is_dir():
            raise StackError(
                f"expected a file {file}, found a folder: Docker makes one where a stack is "
                f"started before its secrets are written. Remove it: rmdir {file}"
            )
        if not file.exists() or file.read_text() != text:
            write_private(file, text, mode=0o444)


def _lines(settings: Mapping[str, str], begin: tuple[str, ...]) -> str:
    """Return the settings whose names begin so and that have a value, one a line."""
    names = sorted(name for name in settings if name.startswith(begin) and settings[name])
    return "".join(f"{name}={settings[name]}\n" for name in names)


def has_older(container: Mapping[str, Any], folders: Iterable[Path]) -> bool:
    """Say whether a secret of a container, as Docker describes it, is newer than its start.

    Args:
        container: what `docker inspect` says of it.
        folders: where its secrets lie, those with the certificates among them.
    """
    started_at = container["State"]["StartedAt"]
    started = datetime.fromisoformat(started_at).timestamp()
    names = []
    for mount in container["Mounts"]:
        place = mount["Destination"]
        if place.startswith(_MOUNT):
            names.append(place.removeprefix(_MOUNT))

    for folder in folders:
        for name in names:
            file = folder / name
            # Not the time of the content, which a copy may keep: when the file came to its place.
            if file.exists() and file.stat().st_ctime > started:
                return True
    return False
