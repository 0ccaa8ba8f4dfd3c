"""Every error that the pipeline raises on purpose, each with the exit code of the `mf` command.

A message says what was expected, what came, and what to do next. `RetryableError` marks what may go
away by itself (a database or an object store that did not answer); the DAG retries those and
nothing else.
"""

from typing import ClassVar

from mf_core.redaction import without_secrets


class MFError(Exception):
    """Base of all the project's errors. A URI in its message is shown without its secrets."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class ConfigError(MFError):
    """A setting is unknown, out of its bounds, or contradicts another one."""

    exit_code = 2


class StateError(MFError):
    """A model version is in a state that does not allow what was asked for."""

    exit_code = 2


class InputError(MFError):
    """The source of ratings was refused; the ratings table is as it was."""

    exit_code = 3


class QualityError(MFError):
    """A data check failed before training."""

    exit_code = 4


class CapacityError(MFError):
    """The run needs more memory or disk than there is here; nothing was trained."""

    exit_code = 14


class GateError(MFError):
    """The candidate was refused; what readers see is unchanged."""

    exit_code = 5


class PromotionRaceError(MFError):
    """Another run promoted its version after this candidate was judged."""

    exit_code = 6


class StaleListsError(MFError):
    """What readers see is older than it may be (`mf status --max-age`), or nothing is live."""

    exit_code = 7


class TrainingError(MFError):
    """Training failed: non-finite numbers, a missing GPU, or a trainer that died."""

    exit_code = 12


class VerificationError(MFError):
    """The table of recommendations failed a check before anybody could see it."""

    exit_code = 12


class RetryableError(MFError):
    """Base of failures that a retry may cure."""


class DatabaseError(RetryableError):
    """Postgres was not reached, broke off, gave no lock in time, or has another schema."""

    exit_code = 10


class ArtifactError(MFError):
    """An artifact is missing, or its bytes are not those that its checksum promises."""

    exit_code = 11


class TrainerKilledError(RetryableError):
    """The trainer process was killed by a signal; a retry goes on from its last checkpoint."""

    exit_code = 12


class WorkerLostError(RetryableError):
    """Another worker of a training is gone or has not come; a retry goes on from the checkpoint."""

    exit_code = 12


class ArtifactStoreError(RetryableError):
    """The artifact store could not be reached or broke off."""

    exit_code = 11


class ScratchFullError(RetryableError):
    """The temporary folder is full; a retry may find room, once somebody has made some."""

    exit_code = 13
