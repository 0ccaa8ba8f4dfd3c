"""Become a command whose environment holds the secrets of this container; the images' entry point.

    python with_secrets.py COMMAND [ARGUMENT...]

Compose gives each service the files in /run/secrets that it needs. Where a variable says `<NAME>`,
the secret of that name takes its place, with special characters escaped if the value is a URL. So
neither the compose file nor `docker inspect` shows a password. A file `NAME.env` holds variables of
its own, one a line.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

FOLDER = Path("/run/secrets")


def filled(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment with the secrets of `folder` in it.

    Raises:
        FileNotFoundError: a variable asks for a secret that is not there.
    """
    known = dict(environment)
    for file in sorted(folder.glob("*.env")):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            known[name] = value
    return {name: _filled(value, folder) for name, value in known.items()}


def _filled(value: str, folder: Path) -> str:
    def secret(match: re.Match[str]) -> str:
        text = (folder / match[1]).read_text(encoding="utf-8").strip("\n")
        return quote(text, safe="") if "://" in value else text

    return re.sub(r"<([A-Z][A-Z0-9_]*)>", secret, value)


if __name__ == "__main__":
    try:
        environment = filled(os.environ, FOLDER)
    except OSError as error:
        sys.exit(f"expected the secret {error.filename}: `make compose-up` makes it ({error})")
    os.execvpe(sys.argv[1], sys.argv[1:], environment)
