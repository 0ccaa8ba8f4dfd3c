"""How a task fails: what happened, what to do and a link come first, before any traceback.

An expected failure (`MFError`) is told in one line of the task's log, and that is all. Airflow logs
the traceback of whatever a task raises, SystemExit excepted, so such a failure leaves the task as
one (`retries.leave`). What nobody expected keeps its traceback, below the line.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from mf_core import errors
from mf_core.redaction import without_secrets
from mf_dags.features import AirflowTaskTimeout, conf
from mf_dags.retries import cause_of, leave

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

RUNBOOK_VARIABLE = "MF_RUNBOOK_URL"
MAX_MESSAGE_LENGTH = 2000

# What to do, and where the runbook says more; looked up by the error's class or its nearest parent.
ADVICE: dict[type[BaseException], tuple[str, str]] = {
    errors.ConfigError: ("correct the settings and trigger again", "start"),
    errors.StateError: ("start a new run; a published version stays as it is", "state"),
    errors.InputError: (
        "look at the source and at the table rejected_ratings; the ratings are unchanged",
        "ingest",
    ),
    errors.QualityError: ("look at the source; the ratings are not fit to train on", "check"),
    errors.CapacityError: ("give the worker more, or change what the message names", "capacity"),
    errors.GateError: (
        "read the verdict in the console; what readers see is unchanged",
        "gate",
    ),
    errors.PromotionRaceError: (
        "nothing, if the version that went live is the wanted one; else trigger again",
        "race",
    ),
    errors.TrainingError: ("read the log of the trainer above", "train"),
    errors.TrainerKilledError: (
        "look for memory on the worker, then clear this task: it goes on from its checkpoint",
        "train",
    ),
    errors.VerificationError: ("nobody has seen the new table; look at the named users", "verify"),
    errors.DatabaseError: ("check that the warehouse is up, then clear this task", "database"),
    errors.ScratchFullError: ("make room in the worker's temporary folder", "ingest"),
    errors.ArtifactError: (
        "an artifact is damaged or missing; clear the task that wrote it",
        "artifacts",
    ),
    errors.ArtifactStoreError: (
        "check that the artifact store answers, then clear this task",
        "artifacts",
    ),
    AirflowTaskTimeout: ("see in the log above what it waited for, then clear this task", "train"),
    SystemExit: ("nothing yet: a task that is told to end is tried again by itself", "train"),
}
UNEXPECTED = (
    "read the traceback, if there is one; if the process was killed, look for memory",
    "runbook",
)


def told(function: Callable[P, R]) -> Callable[P, R]:
    """Let a task's function tell its failure in the first ERROR line of the task's log."""

    @wraps(function)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function."""
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            tell(error, function.__name__)
            leave(error)

    return telling


def tell(exception: BaseException | None, where: str) -> None:
    """Write into the log that `where` failed, why, and what to do."""
    log.error(Failure.of(exception).sentence(where))


@dataclass(frozen=True)
class Failure:
    """A failure in words.

    Attributes:
        error: the class of the error; `killed` where there was none.
        exit_code: what `mf` would have ended with.
        message: what the error says.
        action: what to do.
        runbook: where the runbook says more.
    """

    error: str
    exit_code: int
    message: str
    action: str
    runbook: str

    @classmethod
    def of(cls, exception: BaseException | None) -> "Failure":
        """Return the failure that an exception stands for; None: the process just ended."""
        cause = cause_of(exception)
        action, anchor = _advice(cause)
        message = "the task's process ended without an exception"
        if cause is not None:
            message = str(cause) or type(cause).__name__
        return cls(
            error="killed" if cause is None else type(cause).__name__,
            exit_code=getattr(cause, "exit_code", 1),
            message=without_secrets(message)[:MAX_MESSAGE_LENGTH],
            action=action,
            runbook=runbook_url(anchor),
        )

    def sentence(self, where: str) -> str:
        """Return what happened, what to do and the link, in one line."""
        message = " ".join(self.message.split()).rstrip(".")
        return (
            f"{where} failed ({self.error}, exit code {self.exit_code}): {message}. "
            f"What to do: {self.action}. More: {self.runbook}"
        )


def runbook_url(section: str) -> str:
    """Return the link to a section of the runbook.

    MF_RUNBOOK_URL says where the runbook lies. Without it, that is the copy that the console
    serves, and its path in the sources where Airflow's address is not known either.
    """
    base = os.environ.get(RUNBOOK_VARIABLE)
    airflow = conf.get("api", "base_url", fallback="")
    if not base:
        base = f"{airflow.rstrip('/')}/mf/runbook" if airflow else "docs/runbook.md"
    return f"{base}#{section}"


def _advice(exception: BaseException | None) -> tuple[str, str]:
    """Return what to do, and the runbook's section that says more."""
    if exception is None:
        return UNEXPECTED
    # From the class itself up to its farthest parent.
    for parent in type(exception).__mro__:
        if parent in ADVICE:
            return ADVICE[parent]
    return UNEXPECTED
