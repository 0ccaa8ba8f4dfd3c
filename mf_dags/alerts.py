"""Failure callbacks: what the log says as JSON to a webhook, and a run's failure on record.

`MF_ALERT_WEBHOOK` is the webhook's address; without it only the log is written. The address may
hold a token, so it is never logged; neither is a password that an error message might quote.
"""

import json
import logging
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mf_core.errors import RetryableError
from mf_dags.failures import Failure, runbook_url
from mf_dags.retries import Final, Told, cause_of
from mf_dags.runtime import place_of_callback

log = logging.getLogger(__name__)

WEBHOOK_TIMEOUT_SECONDS = 10


def alert_failure(context: Mapping[str, Any]) -> None:
    """Report a task that has failed for good."""
    task_instance = context["task_instance"]
    exception = context.get("exception")
    failure = Failure.of(exception)
    where = f"{task_instance.dag_id}.{task_instance.task_id} of {task_instance.run_id}"
    # The first ERROR line of the task's log has said it.
    if not isinstance(exception, (Told, Final)):
        log.error(failure.sentence(where))
    _post(
        {
            "dag_id": task_instance.dag_id,
            "run_id": task_instance.run_id,
            "task_id": task_instance.task_id,
            "map_index": task_instance.map_index,
            "try_number": task_instance.try_number,
            **asdict(failure),
        }
    )


def alert_timeout(context: Mapping[str, Any]) -> None:
    """Report a run that took longer than it may; its failed tasks have reported themselves."""
    if context.get("reason") != "timed_out":
        return

    run = context["dag_run"]
    failure = Failure(
        error="timeout",
        exit_code=1,
        message="the run took longer than its dagrun_timeout",
        action=(
            "see which task it waited for "
            "(no worker on the queue of `train`, a missing pool, a slow source)"
        ),
        runbook=runbook_url("train"),
    )
    log.error(failure.sentence(f"{run.dag_id}, run {run.run_id},"))
    _post({"dag_id": run.dag_id, "run_id": run.run_id, **asdict(failure)})


def record_failure(context: Mapping[str, Any]) -> None:
    """Put on record which task ended the run, and what it said.

    A worker without a warehouse leaves that to the task `close`, and so does a warehouse that does
    not answer: what the task failed with is the news, and nothing may hide it.
    """
    task_instance = context["task_instance"]
    cause = cause_of(context.get("exception"))
    error = cause or RetryableError("the task's process was killed")
    try:
        from mf_core import pipeline

        place = place_of_callback(context)
        pipeline.record_failure(place, task_instance.run_id, task_instance.task_id, error)
    except Exception as problem:
        log.info(
            "Not on record from here (%s); the task close names the step.", type(problem).__name__
        )


def _post(alert: Mapping[str, Any]) -> None:
    """Send `alert` to the webhook, if there is one.

    A webhook that does not answer is a warning: the run has failed already.
    """
    webhook = os.environ.get("MF_ALERT_WEBHOOK")
    if not webhook:
        return
    if not webhook.startswith(("http://", "https://")):
        log.warning("MF_ALERT_WEBHOOK is no http(s) address; the alert was not sent.")
        return

    # Chat services show `text` and ignore the rest.
    text = f"{alert['dag_id']}: {alert['message']}"
    body = json.dumps({"text": text, **alert}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(webhook, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT_SECONDS):
            log.info("The alert was sent to the webhook.")
    except (OSError, ValueError) as error:
        # The message of a urllib error may quote the address.
        log.warning("The alert could not be sent to the webhook (%s).", type(error).__name__)
