"""Trials of a study: which one comes first, which are repeated, and which are fitted again."""

from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# So many of the best trials are fitted again on other parts, beside the first one.
_FINALISTS = 5
# Attribute of a trial that repeats one that did not end: the number of that one.
_AGAIN_OF = "again_of"


def is_first(trial: optuna.Trial | FrozenTrial) -> bool:
    """Say whether the trial has the settings that the study was begun with.

    The other trials are compared with it.
    """
    repeats = trial.user_attrs.get(_AGAIN_OF)
    return trial.number == 0 or repeats == 0


def fitted_before(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Say whether another trial has had the same settings, to its end or until it was stopped."""
    fitted = (TrialState.COMPLETE, TrialState.PRUNED)
    others = study.get_trials(deepcopy=False, states=fitted)
    known_settings = [other.params for other in others]
    return trial.params in known_settings


def put_in_line_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Queue the settings of a trial that did not end, so that they are tried again, but only once.

    Settings that kill every process that tries them would otherwise be tried for ever.
    """
    is_repeat = _AGAIN_OF in trial.user_attrs
    if trial.params and not is_repeat:
        study.enqueue_trial(dict(trial.params), user_attrs={_AGAIN_OF: trial.number})


def finalists(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trial with the settings as begun, and the best others that ran to their end.

    No trial at all before that one has ended.
    """
    sign = sign_of(study.direction)

    def standing(trial: FrozenTrial) -> tuple[bool, float]:
        """The first trial comes first, then the lowest cost."""
        value = trial.value or 0.0
        cost = sign * value
        return not is_first(trial), cost

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    complete.sort(key=standing)
    if not complete or not is_first(complete[0]):
        return []

    # Several processes may have fitted the same settings; one trial stands for them.
    distinct: dict[tuple[Any, ...], FrozenTrial] = {}
    for trial in complete:
        tried = tuple(trial.params.values())
        distinct.setdefault(tried, trial)
    return list(distinct.values())[: 1 + _FINALISTS]


def again_key(number: int, part: int) -> str:
    """Return the name under which the study holds a figure: of trial `number`, on part `part`."""
    return f"again_{number}_{part}"


def sign_of(direction: StudyDirection) -> float:
    """Return the factor that makes lower values the better ones."""
    return -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
