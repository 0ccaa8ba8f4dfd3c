"""When a task is tried again.

What may go away by itself is: a `RetryableError`, an I/O error, an API server that does not answer, a process that was told to
end (SIGTERM raises SystemExit). So is a task whose process was killed: that raises nothing, and the count alone decides.
Everything else (refused input, a refusal by the gate, a lost race, a defect in the code) would end the same way again.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

_PASSING = (
    "mf_core.errors.RetryableError",
    "builtins.OSError",
    "builtins.SystemExit",
    "sqlalchemy.exc.OperationalError",
    "httpx.TransportError",
    "airflow.sdk.exceptions.AirflowRuntimeError",
)

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(list(_PASSING), RetryAction.RETRY, reason="may go away by itself"),
        RetryRule(
            "builtins.Exception", RetryAction.FAIL, reason="a second try would end the same way"
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
