"""The file `.env` of the compose stack: read, made, completed with random keys and passwords."""

import base64
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """A variable of an environment file; `comments` are the lines above it."""

    name: str
    value: str
    is_set: bool
    comments: tuple[str, ...] = ()

    def text(self) -> str:
        """Return it as it stands in the file, without its comments."""
        return f"{'' if self.is_set else '# '}{self.name}={self.value}"


def read_lines(text: str) -> list[Line]:
    """Return the variables of an environment file in their order, those behind a `#` included."""
    found = []
    comments: list[str] = []
    for row in text.splitlines():
        match = re.match(r"^(# ?)?(?:export )?([A-Z][A-Z0-9_]*)=(.*)$", row)
        if match:
            hash_sign, name, value = match.groups()
            found.append(Line(name, value.rstrip(), not hash_sign, tuple(comments)))
        comments = [*comments, row] if row.startswith("#") and not match else []
    return found


def values_of(text: str) -> dict[str, str]:
    """Return the variables that an environment file sets, with the values that compose reads."""
    return {line.name: plain(line.value) for line in read_lines(text) if line.is_set}


def plain(value: str) -> str:
    """Return what a value means: without quotes around it, and without a comment behind it."""
    quoted = re.match(r"""^\s*(["'])(.*?)\1(?:\s+#.*)?$""", value)
    # A `#` without a space before it belongs to the value.
    return quoted[2] if quoted else re.sub(r"\s+#.*$", "", value).strip()


def random_value(name: str) -> str:
    """Return a new key or password; it may stand in a URL."""
    if name == "FERNET_KEY":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return secrets.token_hex(24)


def completed(text: str, example: str) -> str:
    """Return an environment file with a value for everything that `example` asks for.

    A value that is there stays. An empty one is filled, and what only `example` has is added, with
    its comments. What the stack needs counts as missing behind a `#`.
    """
    secrets = set(asked(example))
    rows = []
    for row in text.splitlines():
        empty = [line for line in read_lines(row) if line.is_set and not plain(line.value)]
        wanted = [line.name for line in empty if line.name in secrets]
        rows += [f"{name}={random_value(name)}" for name in wanted] or [row]

    known = {line.name for line in read_lines(text) if line.is_set or line.name not in secrets}
    for line in read_lines(example):
        if line.name in known:
            continue
        value = random_value(line.name) if line.is_set and not line.value else line.value
        rows += [*line.comments, Line(line.name, value, line.is_set).text()]
    return "\n".join(rows) + "\n"


def asked(example: str) -> list[str]:
    """Return the names of the keys and passwords that a stack needs."""
    return [line.name for line in read_lines(example) if line.is_set]


def ensure_env_file(file: Path, example: str) -> str:
    """Make or complete the file `file`, for its owner alone, and say what was done."""
    if not file.exists():
        head = "# Keys and passwords of the stack, made by `make compose-up`. Keep a copy.\n"
        write_private(file, completed(head, example))
        return f"{file.name} is made, with random keys and passwords: keep a copy of it"

    text = file.read_text()
    wanted = completed(text, example)
    if wanted.rstrip("\n") == text.rstrip("\n"):
        return ""
    new = sorted({line.name for line in read_lines(wanted)} - {x.name for x in read_lines(text)})
    write_private(file, wanted)
    return f"{file.name} is completed: {', '.join(new) or 'empty lines have values now'}"


def write_private(file: Path, text: str, mode: int = 0o600) -> None:
    """Write in one step, so that a kill leaves the old file or the new one."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    # Whatever the umask takes away.
    os.fchmod(descriptor, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    temporary.replace(file)
