"""Failure callbacks: one clear line in the log, and the same as JSON to a webhook.

`MF_ALERT_WEBHOOK` is the webhook's address; without it only the log is written. The address may
hold a token, so it is never logged; neither is a password that an error message might quote.
"""

import json
import logging
import os
import urllib.request
from collections.abc import Mapping
from typing import Any

from mf_core import errors
from mf_core.redaction import without_secrets

log = logging.getLogger(__name__)

WEBHOOK_TIMEOUT_SECONDS = 10
MAX_MESSAGE_LENGTH = 2000

# What to do, and where the runbook says more; looked up by the error's class or its nearest parent.
ADVICE: dict[type[BaseException], tuple[str, str]] = {
    errors.ConfigError: ("correct the settings and trigger again", "runbook"),
    errors.StateError: ("start a new run; a published version stays as it is", "state"),
    errors.InputError: (
        "look at the source and at mf.rejected_ratings; the ratings are unchanged",
        "ingest",
    ),
    errors.QualityError: ("look at the source; the ratings are not fit to train on", "check"),
    errors.GateError: (
        "read the verdict in mf.gate_decisions; what readers see is unchanged",
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
}
UNEXPECTED = ("read the task's log; if the process was killed, look for memory", "runbook")


def alert_failure(context: Mapping[str, Any]) -> None:
    """Report a task that has failed for good."""
    task_instance = context["task_instance"]
    exception = context.get("exception")
    message = str(exception or "the task's process ended without an exception")
    action, anchor = _advice(exception)
    _report(
        {
            "dag_id": task_instance.dag_id,
            "run_id": task_instance.run_id,
            "task_id": task_instance.task_id,
            "map_index": task_instance.map_index,
            "try_number": task_instance.try_number,
            "error": type(exception).__name__ if exception is not None else "killed",
            "exit_code": getattr(exception, "exit_code", 1),
            "message": _without_secrets(message),
            "action": action,
            "runbook": f"docs/runbook.md#{anchor}",
        }
    )


def alert_timeout(context: Mapping[str, Any]) -> None:
    """Report a run that took longer than it may; its failed tasks have reported themselves."""
    if context.get("reason") != "timed_out":
        return

    run = context["dag_run"]
    _report(
        {
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "error": "timeout",
            "exit_code": 1,
            "message": "the run took longer than its dagrun_timeout",
            "action": (
                "see which task it waited for "
                "(a missing worker on queue gpu, a missing pool gpu, a slow source)"
            ),
            "runbook": "docs/runbook.md#train",
        }
    )


def _advice(exception: BaseException | None) -> tuple[str, str]:
    """Return what to do, and the runbook's section that says more."""
    if exception is None:
        return UNEXPECTED
    # From the class itself up to its farthest parent.
    for parent in type(exception).__mro__:
        if parent in ADVICE:
            return ADVICE[parent]
    return UNEXPECTED


def _without_secrets(text: str) -> str:
    return without_secrets(text)[:MAX_MESSAGE_LENGTH]


def _report(alert: dict[str, Any]) -> None:
    """Write `alert` to the log, and send it to the webhook if there is one."""
    where = alert["dag_id"]
    if "task_id" in alert:
        where = f"{where}.{alert['task_id']}"
    log.error(
        "%s failed in %s with exit code %s (%s): %s What to do: %s; see %s",
        where,
        alert["run_id"],
        alert["exit_code"],
        alert["error"],
        alert["message"],
        alert["action"],
        alert["runbook"],
    )

    webhook = os.environ.get("MF_ALERT_WEBHOOK")
    if webhook:
        _post(webhook, alert)


def _post(webhook: str, alert: dict[str, Any]) -> None:
    """Send `alert`. A webhook that does not answer is a warning: the run has failed already."""
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
