"""The best trials and the present settings fitted again, on other validation parts and with other seeds.

The best of many trials was lucky on the part that all were judged on. So who wins is decided here, where nobody was chosen: the
same parts for all, and the difference to the present settings part by part, with its standard error.
"""

import os
import random
import time
from collections.abc import Callable

import optuna

from mf_core.tune.fit import Figure, fit_and_judge
from mf_core.tune.study import again_key, finalists
from mf_core.tune.task import Task, make_task


class _TimeIsUpError(Exception):
    """A fit is broken off."""


def fit_again(
    task: Task, study: optuna.Study, parts: int, deadline: float, log: Callable[[str], None]
) -> None:
    """Fit the study's best trials and trial 0 on `parts` other validation parts, as far as the time goes.

    Figures stay in the study, and what is there is not fitted again.

    Raises:
        TrainingError: a fit failed.
    """

    def after(_: int, __: Figure) -> None:
        if time.monotonic() > deadline:
            raise _TimeIsUpError

    try:
        for part in range(1, parts + 1):
            other = None
            while missing := _missing(study, part):
                # A choice of the process's own: several seldom fit the same.
                trial = random.Random(os.getpid()).choice(missing)
                other = other or make_task(task.config, task.head, task.rows, part)
                value, _ = fit_and_judge(other, trial.params, after)
                study.set_user_attr(again_key(trial.number, part), value)
                log(f"trial {trial.number} again, part {part}: {task.metric} {value:.4f}")
    except _TimeIsUpError:
        log("the time is up; start it again to have the best trials compared on all parts")


def _missing(study: optuna.Study, part: int) -> list[optuna.trial.FrozenTrial]:
    """Return the finalists without a figure on this part."""
    known = study.user_attrs
    return [trial for trial in finalists(study) if again_key(trial.number, part) not in known]
