"""What the launcher and the trainer's process tell each other: work, result, and messages."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from mf_core import __version__
from mf_core.config import Config, with_found
from mf_core.data import store
from mf_core.data.artifacts import check_artifact
from mf_core.errors import ArtifactError, StateError
from mf_core.extras import TRAIN
from mf_core.provenance import MODEL_SOURCES, source_hash
from mf_core.records import FoundSettings, ModelRef, Progress, SplitRef, StartRef

Stage = Literal["evaluated", "refit"]
RESULT = "result.json"
_OUTCOME = "search.json"
_SEAL = "published"
_SEALED = b"This version was published; its models are never written again.\n"


@dataclass(frozen=True)
class Manifest:
    """What to train.

    Attributes:
        snapshot_uri, snapshot_sha256: the ratings.
        stage: `evaluated` trains on the training side, `refit` on both sides.
        model_version: the run's number.
        config: all settings of the run.
        output_uri: where the models of the heads go.
        checkpoint_uri: where checkpoints go.
        parent_pid: the process that waits; the trainer ends with it.
        iterations: for a refit, those of the evaluated fit by head, such as {"ranking": 12}; None:
            early stopping decides.
        start: the evaluated model that the fit starts from; None: a cold start.
        found: settings that a search found, laid under those of `config`; None: there are none.
        search: search for settings first, beginning at `found`.
    """

    snapshot_uri: str
    snapshot_sha256: str
    stage: Stage
    model_version: int
    config: dict[str, Any]
    output_uri: str
    checkpoint_uri: str
    parent_pid: int
    iterations: dict[str, int] | None = None
    start: StartRef | None = None
    found: FoundSettings | None = None
    search: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", StartRef.restored(self.start))
        object.__setattr__(self, "found", FoundSettings.restored(self.found))

    @classmethod
    def of(
        cls,
        config: Config,
        split: SplitRef,
        stage: Stage,
        artifact_root: str,
        *,
        parent_pid: int,
        iterations: dict[str, int] | None = None,
        start: StartRef | None = None,
        found: FoundSettings | None = None,
    ) -> "Manifest":
        """Return the work on a run's snapshot; `artifact_root` is any fsspec URI."""
        root = artifact_root.rstrip("/")
        version = split.model_version
        return cls(
            snapshot_uri=split.uri,
            snapshot_sha256=split.sha256,
            stage=stage,
            model_version=version,
            config=config.for_record(),
            output_uri=f"{root}/models/{version}/{stage}",
            checkpoint_uri=f"{root}/checkpoints/{version}-{stage}",
            parent_pid=parent_pid,
            iterations=iterations,
            start=start,
            found=found,
            # A refit takes over what the evaluated fit has found.
            search=split.search and stage == "evaluated",
        )

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(dataclasses.asdict(self))

    def settings(self) -> Config:
        """Return the settings in force: those of the run, with the found ones under them.

        Raises:
            ConfigError: the found ones do not fit.
        """
        config = Config.model_validate(self.config)
        return with_found(config, self.found.settings) if self.found else config

    def fingerprint(self) -> str:
        """Return the sha256 (hex) over all that the result depends on, the code included.

        Settings that shape nothing of a model (gate limits, the device, ...) are left out: a change
        of theirs leaves a finished model finished.
        """
        fields = dataclasses.asdict(self)
        del fields["parent_pid"]
        fields["config"] = self.settings().fingerprint("model")
        # Neither when they were found nor by which figures.
        fields["found"] = self.found.settings if self.found else {}
        parts = [fields, versions(), source_hash(MODEL_SOURCES)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of all that decides the bits of a result."""
    packages = {name: importlib.metadata.version(name) for name in ("keras", "numpy")}
    return {
        "mf_core": __version__,
        "python": platform.python_version(),
        "tensorflow": _tensorflow_version(),
        **packages,
    }


def _tensorflow_version() -> str:
    """Return TensorFlow's version, whichever of its packages is installed.

    Raises:
        TrainingError: none is.
    """
    for package in ("tensorflow", "tensorflow-cpu"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    raise TRAIN.missing()


def write_result(manifest: Manifest, model: ModelRef, work: Manifest | None = None) -> None:
    """Put on record, beside the models, that this work is done.

    What a search has found is known afterwards only, so `work` is the same with that in it: whoever
    asks for that finds the result too.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    asked = sorted({manifest.fingerprint(), (work or manifest).fingerprint()})
    fields = {**dataclasses.asdict(model), "fingerprints": asked}
    content = {"result": fields, "sha256": _checksum(fields)}
    path = store.store_path(manifest.output_uri) / RESULT
    store.write(path, json.dumps(content, indent=1).encode())


def read_result(manifest: Manifest) -> ModelRef | None:
    """Return the result of this very work; None where there is none, or it is damaged.

    The models themselves are not looked at.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    written = store.read(store.store_path(manifest.output_uri) / RESULT)
    if written is None:
        return None
    try:
        content = json.loads(written)
        fields = content["result"]
        if content["sha256"] != _checksum(fields):
            return None
        if manifest.fingerprint() not in fields.pop("fingerprints"):
            return None
        return ModelRef(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_outcome(manifest: Manifest, found: FoundSettings) -> None:
    """Keep what a search has found with the checkpoints of the fit that it is for.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    fields = {"found": dataclasses.asdict(found), "fingerprint": manifest.fingerprint()}
    content = {"outcome": fields, "sha256": _checksum(fields)}
    path = store.store_path(manifest.checkpoint_uri) / _OUTCOME
    store.write(path, json.dumps(content, indent=1).encode())


def read_outcome(manifest: Manifest) -> FoundSettings | None:
    """Return what the search of this very work has found; None where there is none, or damage.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    written = store.read(store.store_path(manifest.checkpoint_uri) / _OUTCOME)
    if written is None:
        return None
    try:
        content = json.loads(written)
        fields = content["outcome"]
        if content["sha256"] != _checksum(fields):
            return None
        if fields["fingerprint"] != manifest.fingerprint():
            return None
        return FoundSettings(**fields["found"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(fields: dict[str, Any]) -> str:
    """Return the sha256 (hex) of what a result holds; nobody else vouches for it."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def finished(manifest: Manifest) -> ModelRef | None:
    """Return the result of this very work if its models stand there whole, each byte of them.

    Otherwise None: the work is to be done (again).

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    model = read_result(manifest)
    if model is None:
        return None
    try:
        for head in model.heads.values():
            check_artifact(head.uri, head.sha256)
    except ArtifactError:
        return None
    return model


def seal(artifact_root: str, model_version: int) -> None:
    """Mark the models of a published version: no training writes them again.

    Later nights are compared with them, and a worker without a database can't ask for their state.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    path = store.store_path(f"{artifact_root}/models/{model_version}") / _SEAL
    # Read, and not only looked for: a damaged one seals as well, but should not stay so.
    if store.read(path) != _SEALED:
        store.write(path, _SEALED)


def refuse_sealed(manifest: Manifest) -> None:
    """Make sure that the version to train was not published.

    Raises:
        StateError: it was.
        ArtifactStoreError: the store can't be read.
    """
    if store.exists(store.store_path(manifest.output_uri).parent / _SEAL):
        raise StateError(
            f"model version {manifest.model_version} was published, so it can't be trained again: "
            "later nights are compared with it. Start a new run to make a new version. If its "
            "models are damaged: docs/runbook.md#artifacts."
        )


def stored_versions(artifact_root: str) -> dict[int, list[str]]:
    """Return the versions of which models or checkpoints lie in the store, with their folders.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    found: dict[int, list[str]] = {}
    for folder in ("models", "checkpoints"):
        for name in store.names_in(store.store_path(artifact_root) / folder):
            # As `Manifest.of` names them: 7 and 7-refit.
            version = name.partition("-")[0]
            if version.isdecimal():
                found.setdefault(int(version), []).append(f"{artifact_root}/{folder}/{name}")
    return found


@dataclass(frozen=True)
class Problem:
    """The error that ended the trainer: the name of its class, and its message."""

    type: str
    message: str


Message = Progress | Problem
_PREFIXES: dict[type[Message], str] = {
    Progress: "mf-trainer-progress ",
    Problem: "mf-trainer-problem ",
}


def encode(message: Message) -> str:
    """Return a message as one line of the trainer's output."""
    return _PREFIXES[type(message)] + json.dumps(dataclasses.asdict(message))


def decode(line: str) -> Message | str:
    """Return the message that a line of the trainer's output holds, or the line itself."""
    for kind, prefix in _PREFIXES.items():
        if line.startswith(prefix):
            return kind(**json.loads(line.removeprefix(prefix)))
    return line.rstrip("\n")
