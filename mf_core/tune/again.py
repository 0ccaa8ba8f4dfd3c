"""Fit the best trials and the present settings again, on other validation parts, with other seeds.

All trials of the search are judged on the same part, so the best of many was partly lucky there.
The winner is therefore decided on parts by which no trial was chosen. These parts are the same for
all, so the difference to the present settings is taken part by part, with its standard error.
"""

import os
import random
import time
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial

from mf_core.tune.fit import AfterIteration, Figure, fit_and_judge
from mf_core.tune.task import Task, make_task
from mf_core.tune.trials import again_key, finalists


class _TimeIsUpError(Exception):
    """A fit is broken off."""


def fit_again(
    task: Task, study: optuna.Study, parts: int, deadline: float, log: Callable[[str], None]
) -> None:
    """Fit the study's best trials and trial 0 on `parts` other validation parts.

    It ends at `deadline` (by `time.monotonic()`). Figures stay in the study, and no trial is fitted
    twice on the same part.

    Raises:
        TrainingError: a fit failed.
    """

    def stop_in_time(_iteration: int, _figure: Figure) -> None:
        """Break the fit off where the time is up."""
        if time.monotonic() > deadline:
            raise _TimeIsUpError

    try:
        for part in range(1, parts + 1):
            _fit_on_part(task, study, part, after=stop_in_time, log=log)
    except _TimeIsUpError:
        log("the time is up; start it again to have the best trials compared on all parts")


def _fit_on_part(
    task: Task,
    study: optuna.Study,
    part: int,
    *,
    after: AfterIteration,
    log: Callable[[str], None],
) -> None:
    """Fit the finalists that have no figure on this part yet, until all of them have one."""
    missing = _missing(study, part)
    if not missing:
        return
    task_of_part = make_task(task.config, task.head, task.rows, part, task.left_alone)
    while missing:
        # Each process makes its own choice, so several processes seldom fit the same trial.
        trial = random.Random(os.getpid()).choice(missing)
        value, _ = fit_and_judge(task_of_part, trial.params, after)
        study.set_user_attr(again_key(trial.number, part), value)
        log(f"trial {trial.number} again, part {part}: {task.metric} {value:.4f}")
        missing = _missing(study, part)


def _missing(study: optuna.Study, part: int) -> list[FrozenTrial]:
    """Return the finalists without a figure on this part."""
    known = study.user_attrs
    missing = []
    for trial in finalists(study):
        if again_key(trial.number, part) not in known:
            missing.append(trial)
    return missing
