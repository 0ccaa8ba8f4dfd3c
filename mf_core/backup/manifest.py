"""The manifest of a backup: what belongs to it, file by file. It is written last."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mf_core.errors import ArtifactError, ConfigError

NAME = "backup.json"
WAREHOUSE = "warehouse.dump"
METADATA = "metadata.dump"
ARTIFACTS = "artifacts"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        made_at: when, in ISO 8601.
        code_version: which code has made it.
        schema: the schema of the catalogue.
        revision: the revision of that schema.
        artifact_root: URI under which the artifacts lay; the warehouse's rows begin with it.
        has_metadata: whether Airflow's metadata are in it.
        lost: URIs that rows of the warehouse name, and that were missing in the store itself.
        files: sha256 (hex) of each file, by its path within the backup.
        format: how this file is laid out.
    """

    made_at: str
    code_version: str
    schema: str
    revision: str
    artifact_root: str
    has_metadata: bool
    lost: tuple[str, ...]
    files: dict[str, str]
    format: int = _FORMAT

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(asdict(self), indent=1)


def read(folder: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        ConfigError: the folder holds no backup, an unfinished one, or one of a newer release.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise ConfigError(f"expected a backup in the folder {folder}, but there is no such folder.")
    if not path.exists():
        raise ConfigError(
            f"the backup in {folder} was never finished: it has no {NAME}, which is written last. "
            "It can't be restored. Remove the folder, and take another backup."
        )
    try:
        content = dict(json.loads(path.read_bytes()))
    except (TypeError, ValueError):
        raise _damaged(path) from None
    if content.get("format") != _FORMAT:
        raise ConfigError(
            f"the backup in {folder} has format {content.get('format')}, expected {_FORMAT}. "
            "Restore it with the release that has made it."
        )
    try:
        return Manifest(**{**content, "lost": tuple(content["lost"])})
    except (KeyError, TypeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} is damaged. Nothing was restored. Take another copy.")


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files of a folder, by their paths within it."""
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files_of(folder)}


def files_of(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder, those of folders in it too."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_whole(folder: Path, manifest: Manifest) -> None:
    """Make sure that a backup has all its files, each byte of them, and no others.

    Raises:
        ArtifactError: it has not.
    """
    found = checksums(folder)
    found.pop(NAME, None)
    differing = sorted(
        name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name)
    )
    if differing:
        raise ArtifactError(
            f"the backup in {folder} is damaged: {len(differing)} of its files are missing, "
            f"changed or strange, such as {differing[0]}. Nothing was restored. "
            "Take another copy of it, or another backup."
        )
