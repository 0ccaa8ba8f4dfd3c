"""When a task is tried again.

It is tried again after what may go away by itself: a `RetryableError`, an I/O error, an API server
that does not answer, a process that was told to end (SIGTERM raises SystemExit). A task whose
process was killed is tried again too; that raises nothing, so only the number of tries decides.
Everything else would end the same way again: refused input, a refusal by the gate, a lost race, a
defect in the code.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from mf_dags.failures import cause_of

_PASSING = (
    "mf_core.errors.RetryableError",
    "builtins.OSError",
    "builtins.SystemExit",
    "sqlalchemy.exc.OperationalError",
    "httpx.TransportError",
    "airflow.sdk.exceptions.AirflowRuntimeError",
)


class CausePolicy(ExceptionRetryPolicy):
    """Rules on what a task failed with, whether its log has told that already or not."""

    def evaluate(self, exception: BaseException, *rest: Any, **named: Any) -> RetryDecision:
        """Return the decision of the first rule that fits."""
        cause = cause_of(exception)
        assert cause is not None
        return super().evaluate(cause, *rest, **named)


# The first rule that fits is taken.
RETRY_POLICY = CausePolicy(
    rules=[
        RetryRule(
            list(_PASSING),
            RetryAction.RETRY,
            reason="may go away by itself",
        ),
        RetryRule(
            "builtins.Exception",
            RetryAction.FAIL,
            reason="a second try would end the same way",
        ),
    ],
    default=RetryAction.FAIL,
)

# Tries at 15, 30, 60 and 120 seconds ride out a restart of Postgres.
RETRY_ARGS: dict[str, Any] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
}
