"""When a task is tried again, and what leaves it for that.

It is tried again after what may go away by itself: a `RetryableError`, an I/O error, an API server
that does not answer, a process that was told to end (SIGTERM raises SystemExit). A task whose
process was killed is tried again too; that raises nothing, so only the number of tries decides.
Everything else would end the same way again: refused input, a refusal by the gate, a lost race, a
defect in the code.

Where Airflow has retry policies, one decides. Where it has none, what is not to be tried again
leaves the task as the exception that says so.
"""

from datetime import timedelta
from typing import Any, NoReturn

from mf_core.errors import MFError
from mf_dags.features import BACKOFF, HAS_RETRY_POLICIES, AirflowFailException

_PASSING = {
    "mf_core.errors.RetryableError",
    "builtins.OSError",
    "builtins.SystemExit",
    "sqlalchemy.exc.OperationalError",
    "httpx.TransportError",
    "airflow.sdk.exceptions.AirflowRuntimeError",
}
"""By name: to import them would make every parsing of a DAG file slow."""


class Told(SystemExit):
    """The end of a task whose failure the log has told already: Airflow shows no traceback of it.

    Attributes:
        error: the failure.
    """

    def __init__(self, error: MFError) -> None:
        """`error` is what the task failed with."""
        super().__init__(error.exit_code)
        self.error = error


class Final(AirflowFailException):
    """The end of a task that is not to be tried again, where there are no retry policies.

    Attributes:
        error: the failure.
    """

    def __init__(self, error: BaseException) -> None:
        """`error` is what the task failed with."""
        super().__init__(str(error))
        self.error = error


def cause_of(exception: BaseException | None) -> BaseException | None:
    """Return what a task failed with, whatever it left the task as."""
    return exception.error if isinstance(exception, (Told, Final)) else exception


def may_pass(exception: BaseException) -> bool:
    """Say whether what a task failed with may go away by itself."""
    cause = cause_of(exception)
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(cause).__mro__}
    return not names.isdisjoint(_PASSING)


def leave(error: BaseException) -> NoReturn:
    """Raise what a task leaves with that failed with `error`, and whose log has told it."""
    if not HAS_RETRY_POLICIES and not may_pass(error):
        raise Final(error) from (None if isinstance(error, MFError) else error)
    if isinstance(error, MFError):
        raise Told(error) from None
    raise error


# Tries at 15, 30, 60 and 120 seconds ride out a restart of Postgres.
RETRY_ARGS: dict[str, Any] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": BACKOFF,
    "max_retry_delay": timedelta(minutes=10),
}

if HAS_RETRY_POLICIES:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

    class CausePolicy(RetryPolicy):
        """Decides by what a task failed with, whether its log has told that already or not."""

        def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
            """Return the decision."""
            if may_pass(exception):
                return RetryDecision.retry(reason="may go away by itself")
            return RetryDecision.fail(reason="a second try would end the same way")

    RETRY_ARGS["retry_policy"] = CausePolicy()
