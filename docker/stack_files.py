"""What a stack reads when it starts: `.env`, the files of the secrets, the user's folders."""

import os
from collections.abc import Mapping

from compose_command import ROOT, output, project_name
from env_file import asked, ensure_env_file, values_of
from secret_files import write_secrets

ENV_FILE = ROOT / ".env"
EXAMPLE = ROOT / "docker" / ".env.example"
SECRETS = ROOT / "secrets"
WEBHOOK = "MF_ALERT_WEBHOOK"
# In `.env` compose reads it too, whoever starts it.
WAY_OUT = """
# The training worker's network leads out: the artifacts or the address of the alerts lie there.
TRAINING_IS_SHUT=false
"""


def make_files() -> dict[str, str]:
    """Make or complete .env and the files of the secrets, and return the settings of the stack.

    Raises:
        StackError: a secret is empty, or a folder is where its file should be.
    """
    if not ENV_FILE.exists() and _volumes():
        print(
            "There is no .env, but the data of an earlier stack: its roles and logins get new "
            "passwords. Connections and variables that were stored in Airflow can't be read "
            "without the old FERNET_KEY: put that into .env, or store them again"
        )
    example = EXAMPLE.read_text()
    if done := ensure_env_file(ENV_FILE, example):
        print(done)
    # The environment goes before the file, as it does for compose.
    values = {**values_of(ENV_FILE.read_text()), **os.environ}
    if not values.get("TRAINING_IS_SHUT") and goes_out(values):
        with ENV_FILE.open("a") as stream:
            stream.write(WAY_OUT)
        print("The training worker's network leads out: .env says why (TRAINING_IS_SHUT)")
    written = values_of(ENV_FILE.read_text())
    values = {**written, **os.environ}
    # Keys of a store that this shell happens to have are not the stack's.
    more = {**written, WEBHOOK: values.get(WEBHOOK, "")}
    write_secrets(SECRETS, {name: values[name] for name in asked(example)}, more)

    for name in ("data", "settings"):
        folder = ROOT / name
        if not values.get(f"MF_{name.upper()}_FOLDER") and not folder.exists():
            # Docker would make it too, and root would own it. The containers have to enter it.
            folder.mkdir()
            folder.chmod(0o755)
    return values


def goes_out(values: Mapping[str, str]) -> bool:
    """Say whether the training worker has to reach what lies outside."""
    root = values.get("MF_ARTIFACT_ROOT") or "file:"
    return bool(values.get(WEBHOOK)) or not root.startswith(("file:", "/"))


def _volumes() -> list[str]:
    """Return the names of the volumes that a stack of this folder has left."""
    label = f"label=com.docker.compose.project={project_name()}"
    command = ["docker", "volume", "ls", "--quiet", "--filter", label]
    return output(command, os.environ).split()
