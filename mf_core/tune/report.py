"""Reports of a study: its trials, the best of them, and what they gain."""

from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from mf_core.errors import ConfigError
from mf_core.tune.storage import stored_studies
from mf_core.tune.trials import again_key, finalists, is_first, sign_of


@dataclass(frozen=True)
class TrialReport:
    """One trial.

    Attributes:
        number: its number; a trial that is run again has another one.
        state: complete, pruned, fail, running or waiting.
        value: its last figure, None where it had none.
        iterations, seconds: what it took.
        settings: what it tried, by name.
        as_begun: these are the settings that the study was begun with.
        again: its figures on other validation parts, as far as all of the best have one; empty if
            it isn't one of them.
    """

    number: int
    state: str
    value: float | None
    iterations: int | None
    seconds: float | None
    settings: dict[str, Any]
    as_begun: bool = False
    again: tuple[float, ...] = ()


@dataclass(frozen=True)
class TuneReport:
    """A study as it stands.

    Attributes:
        study: its name.
        metric: what the trials are judged by, such as RMSE.
        trials: finished ones first, the best first; trial 0 has the settings as the study began.
        lower_is_better: whether a lower figure is a better one.
    """

    study: str
    metric: str
    trials: list[TrialReport]
    lower_is_better: bool

    @property
    def finished(self) -> list[TrialReport]:
        """Return the trials that ran to their end, best first."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def compared(self) -> list[TrialReport]:
        """Return the trials that were fitted again on other parts, the best mean first."""
        sign = 1.0 if self.lower_is_better else -1.0

        def cost(trial: TrialReport) -> float:
            """The mean over the parts, where lower is better."""
            mean = float(np.mean(trial.again))
            return sign * mean

        fitted_again = [trial for trial in self.trials if trial.again]
        return sorted(fitted_again, key=cost)

    @property
    def best(self) -> TrialReport | None:
        """Return the best trial; None without one.

        The means on other parts decide, or the trials' own figures where there are no such means.
        """
        candidates = self.compared or self.finished
        return candidates[0] if candidates else None

    def gain(self, trial: TrialReport) -> tuple[float, float]:
        """Return the mean gain of `trial` over the settings as begun, and its standard error.

        `trial` is one of those compared. With one part, the standard error is NaN.
        """
        [begun] = [other for other in self.compared if other.as_begun]

        # Gains are taken part by part, so that what a part does to all trials drops out.
        sign = 1.0 if self.lower_is_better else -1.0
        gains = (np.array(begun.again) - trial.again) * sign

        # The standard error of a mean of n values is s / sqrt(n), with s over n - 1.
        error = np.nan
        if len(gains) > 1:
            error = gains.std(ddof=1) / np.sqrt(len(gains))
        return float(gains.mean()), float(error)

    def best_toml(self) -> str:
        """Return the best settings for the file named by MF_CONFIG.

        Empty if no trial has finished.
        """
        if self.best is None:
            return ""
        sections: dict[str, list[str]] = {}
        for name, value in self.best.settings.items():
            section, _, leaf = name.rpartition(".")
            lines = sections.setdefault(section, [f"[{section}]"])
            lines.append(f"{leaf} = {value!r}")
        return "\n\n".join("\n".join(lines) for lines in sections.values())


def show(engine: Engine, study_name: str) -> TuneReport:
    """Return a study as it stands.

    Raises:
        ConfigError: there is none of that name.
        DatabaseError: Postgres broke off.
    """
    with stored_studies(engine) as storage:
        if study_name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"there is no study {study_name!r}; `mf tune --show` lists them.")
        return report_of(optuna.load_study(study_name=study_name, storage=storage))


def studies(engine: Engine) -> list[dict[str, Any]]:
    """Return all studies: name, figure, number of trials, best value. Raises DatabaseError."""
    with stored_studies(engine) as storage:
        names = optuna.get_all_study_names(storage)
        loaded = [optuna.load_study(study_name=name, storage=storage) for name in names]
        reports = [report_of(study) for study in loaded]
    return [_summary(report) for report in reports]


def _summary(report: TuneReport) -> dict[str, Any]:
    return {
        "study": report.study,
        "metric": report.metric,
        "trials": len(report.trials),
        "best": report.best.value if report.best else None,
    }


def report_of(study: optuna.Study) -> TuneReport:
    """Return a study as it stands."""
    again = _figures_again(study)
    sign = sign_of(study.direction)

    def standing(trial: TrialReport) -> tuple[bool, bool, float]:
        """Finished trials come first, then those with a figure, then the lowest cost."""
        is_unfinished = trial.state != "complete"
        has_no_value = trial.value is None
        value = trial.value or 0.0
        cost = sign * value
        return is_unfinished, has_no_value, cost

    trials = []
    for trial in study.get_trials(deepcopy=False):
        figures = again.get(trial.number, ())
        trials.append(_trial_report(trial, figures))
    return TuneReport(
        study=study.study_name,
        metric=study.user_attrs.get("metric", ""),
        trials=sorted(trials, key=standing),
        lower_is_better=study.direction == StudyDirection.MINIMIZE,
    )


def _figures_again(study: optuna.Study) -> dict[int, tuple[float, ...]]:
    """Return the finalists' figures on other parts, by the trial's number.

    They are those of the first parts, as many as all finalists have a figure on.
    """
    known = study.user_attrs
    numbers = [trial.number for trial in finalists(study)]
    if not numbers:
        return {}

    def all_have(part: int) -> bool:
        """Say whether all finalists have a figure on this part."""
        keys = [again_key(number, part) for number in numbers]
        return all(key in known for key in keys)

    parts = list(takewhile(all_have, count(1)))
    figures = {}
    for number in numbers:
        figures[number] = tuple(known[again_key(number, part)] for part in parts)
    return figures


def _trial_report(trial: FrozenTrial, again: tuple[float, ...]) -> TrialReport:
    value = trial.value
    # A trial that was stopped has no value of its own, so the figure of its last rung stands in.
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    return TrialReport(
        number=trial.number,
        state=trial.state.name.lower(),
        value=value,
        iterations=trial.user_attrs.get("iterations"),
        seconds=trial.user_attrs.get("seconds"),
        settings=trial.params,
        as_begun=is_first(trial),
        again=again,
    )
