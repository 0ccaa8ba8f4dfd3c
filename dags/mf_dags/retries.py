"""When a task is tried again.

A `RetryableError` and an I/O error are; so is a task whose process was killed, which raises nothing and therefore follows
the `retries` count alone. Every other error of the project is a decision (refused input, refused by the gate, a lost race) that a
second try would only repeat.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("mf_core.errors.RetryableError", RetryAction.RETRY, reason="may go away by itself"),
        RetryRule("mf_core.errors.MFError", RetryAction.FAIL, reason="a second try would end the same way"),
        RetryRule("builtins.OSError", RetryAction.RETRY, reason="input or output failed"),
    ],
)

# Tries at 15, 30, 60 and 120 seconds ride out a restart of Postgres.
RETRY_ARGS: dict[str, Any] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
}
