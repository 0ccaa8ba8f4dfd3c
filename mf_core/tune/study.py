"""Studies in the warehouse: Optuna's storage, sampler and pruner, and the reports of a study."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, takewhile
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config, settings
from mf_core.errors import ConfigError, DatabaseError, TrainingError
from mf_core.tune.space import Head
from mf_core.tune.task import Task
from mf_core.warehouse.address import VARIABLE
from mf_core.warehouse.engine import LOCK_TIMEOUT, lock_schema, transaction, translated_errors
from mf_core.warehouse.schema import catalogue_of

RUNG_FACTOR = 3
"""One of so many trials that reach a rung goes on, and the next rung is so many times as far."""

_RUNGS_BELOW_THE_END = 2
# So many of the best trials are fitted again on other parts, beside the first one.
_FINALISTS = 5
# A trial counts as killed after so many heartbeats that did not come.
_GRACE = 4
# Attribute of a trial that repeats one that did not end: the number of that one.
_AGAIN_OF = "again_of"


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
    with session(engine):
        storage = _storage(engine, None)
        if study_name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"there is no study {study_name!r}; `mf tune --show` lists them.")
        return report_of(optuna.load_study(study_name=study_name, storage=storage))


def studies(engine: Engine) -> list[dict[str, Any]]:
    """Return all studies: name, figure, number of trials, best value. Raises DatabaseError."""
    with session(engine):
        storage = _storage(engine, None)
        names = optuna.get_all_study_names(storage)
        loaded = [optuna.load_study(study_name=name, storage=storage) for name in names]
        reports = [report_of(study) for study in loaded]
    return [_summary(report) for report in reports]


def forget(engine: Engine, older_than: timedelta, *, dry_run: bool = False) -> list[str]:
    """Drop the studies whose last trial began or ended longer ago; return their names.

    `dry_run`: drop none.

    Raises:
        DatabaseError: Postgres did not answer.
    """
    with transaction(engine) as connection:
        schema = catalogue_of(connection).tune_schema
        # Nobody has begun one, and none is begun by looking.
        if connection.scalar(sa.select(sa.func.to_regclass(f"{schema}.studies"))) is None:
            return []
    with translated_errors(engine):
        storage = _storage(engine, None)
        # Optuna knows times of this machine without a zone.
        newest = datetime.now() - older_than
        old = [
            study.study_name
            for study in optuna.get_all_study_summaries(storage)
            if (last := _last_change(storage, study.study_name)) is not None and last < newest
        ]
        for name in () if dry_run else old:
            optuna.delete_study(study_name=name, storage=storage)
    return old


def _last_change(storage: optuna.storages.RDBStorage, name: str) -> datetime | None:
    """Return when a trial of a study last began or ended; None for a study without trials."""
    trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    times = [trial.datetime_complete or trial.datetime_start for trial in trials]
    return max((moment for moment in times if moment), default=None)


def _summary(report: TuneReport) -> dict[str, Any]:
    return {
        "study": report.study,
        "metric": report.metric,
        "trials": len(report.trials),
        "best": report.best.value if report.best else None,
    }


def open_study(task: Task, engine: Engine, name: str, heartbeat_seconds: int) -> optuna.Study:
    """Load or begin the study.

    Raises:
        ConfigError: it was begun on other rows or settings, or the schema is missing.
    """
    fingerprint = task.fingerprint()
    storage = _storage(engine, heartbeat_seconds)
    with transaction(engine) as connection:
        # One process at a time, so that only one of them queues the first trial.
        _lock(connection)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="minimize" if task.head == "rating" else "maximize",
            sampler=TrialSeededSampler(task.config.train.seed),
            pruner=_pruner(task.config, task.head),
        )
        if not study.user_attrs:
            _begin(study, task, fingerprint)
    if study.user_attrs.get("task") != fingerprint:
        raise ConfigError(
            f"study {name!r} was begun on other training rows or with other fixed settings, so its "
            "figures can't be compared with tonight's. Name another one with --study, or none."
        )
    return study


def _begin(study: optuna.Study, task: Task, fingerprint: str) -> None:
    """Note what the study is about, and queue a trial of the present settings as the first one."""
    study.set_user_attr("metric", task.metric)
    study.set_user_attr("task", fingerprint)

    present = {setting.name: setting.default for setting in settings(task.config)}
    searched = {name: present[name] for name in task.space}
    study.enqueue_trial(searched)


def _pruner(config: Config, head: Head) -> optuna.pruners.BasePruner:
    """Return successive halving.

    At a ninth and at a third of the iterations, a third of the trials goes on. The burn-in does not
    count.
    """
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=first_rung(config, head),
        reduction_factor=RUNG_FACTOR,
    )


def first_rung(config: Config, head: Head) -> int:
    """Return the iteration at which trials are first compared."""
    solver = config.solver_settings(head)
    limit = solver.iteration_limit()
    burn_in = solver.burn_in_iterations(limit)
    # Each rung divides what comes after the burn-in: first = burn_in + (limit - burn_in) / 3^2.
    after_burn_in = (limit - burn_in) // RUNG_FACTOR**_RUNGS_BELOW_THE_END
    return max(2, burn_in + after_burn_in)


class TrialSeededSampler(optuna.samplers.BaseSampler):
    """A tree-structured Parzen estimator whose draws depend on the seed and the trial's number.

    One generator for all trials would start again in every process. A study that is continued, or
    that two processes work on, would then try the same settings twice.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is the study's."""
        self._seed = seed
        self._tpe = self._of(0)

    def _of(self, number: int) -> optuna.samplers.TPESampler:
        """Return the sampler of trial `number`."""
        sequence = np.random.SeedSequence([self._seed, number])
        [seed] = sequence.generate_state(1)
        return optuna.samplers.TPESampler(seed=int(seed))

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the trial's own sequence of draws."""
        self._tpe = self._of(trial.number)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As `BaseSampler` says."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As `BaseSampler` says."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As `BaseSampler` says."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


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


def _storage(engine: Engine, heartbeat_seconds: int | None) -> optuna.storages.RDBStorage:
    """Return Optuna's storage in the warehouse, its tables made where they are missing.

    Raises:
        ConfigError: the schema is missing.
    """
    with transaction(engine) as connection:
        schema = catalogue_of(connection).tune_schema
        if not connection.scalar(sa.select(sa.func.to_regnamespace(schema))):
            raise ConfigError(
                f"the warehouse has no schema {schema}; bring it up to date with "
                f"`{catalogue_of(connection).command('db migrate')}`."
            )
        # Two processes that make the tables at once would get in each other's way.
        _lock(connection)
        with warnings.catch_warnings():
            # Optuna has called heartbeats experimental since 2021.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                _url_template(engine),
                engine_kwargs={"pool": _pool(engine)},
                heartbeat_interval=heartbeat_seconds,
                grace_period=heartbeat_seconds and _GRACE * heartbeat_seconds,
                heartbeat_stale_trial_callback=put_in_line_again,
            )


def _url_template(engine: Engine) -> str:
    """Return the warehouse's URL as Optuna wants it: a template, so braces are doubled."""
    text = engine.url.render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def _pool(engine: Engine) -> sa.Pool:
    """Return connections whose every transaction works in the schema of the studies.

    Optuna names no schema, and takes a connection anew for each transaction. A pooler refuses
    settings at the start of a connection, and hands on those of a session: so these begin the
    transaction, and end with it.
    """
    schema = catalogue_of(engine).tune_schema
    milliseconds = round(LOCK_TIMEOUT / timedelta(milliseconds=1))
    settings = pg.SQL("SET LOCAL search_path = {}; SET LOCAL lock_timeout = {}").format(
        pg.Identifier(schema), pg.Literal(milliseconds)
    )
    pool = engine.pool.recreate()

    @sa.event.listens_for(pool, "checkout")
    def _begin(connection: Any, _record: Any, _proxy: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(settings)

    return pool


def _lock(connection: Connection) -> None:
    """Wait until no other process makes tables or begins a study, to the transaction's end."""
    lock_schema(connection, catalogue_of(connection).tune_schema)


@contextmanager
def session(engine: Engine) -> Iterator[None]:
    """Keep Optuna's own log lines back, and turn its errors into ours.

    Raises:
        DatabaseError: Postgres broke off.
        TrainingError: another process took this one for killed.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with translated_errors(engine):
            yield
    except optuna.exceptions.StorageInternalError as error:
        variable = catalogue_of(engine).variable(VARIABLE)
        raise DatabaseError(
            f"Postgres broke off in a study: {error.__cause__ or error}. Check {variable}."
        ) from error
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise TrainingError(
            "this process gave no sign of life for so long that another one took its trial for "
            "killed. Start it again: the study goes on."
        ) from error
    finally:
        optuna.logging.set_verbosity(before)


def finalists(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trial with the settings as begun, and the best others that ran to their end.

    No trial at all before that one has ended.
    """
    sign = _sign(study.direction)

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


def _sign(direction: StudyDirection) -> float:
    """Return the factor that makes lower values the better ones."""
    return -1.0 if direction == StudyDirection.MAXIMIZE else 1.0


def again_key(number: int, part: int) -> str:
    """Return the name under which the study holds a figure: of trial `number`, on part `part`."""
    return f"again_{number}_{part}"


def report_of(study: optuna.Study) -> TuneReport:
    """Return a study as it stands."""
    again = _figures_again(study)
    sign = _sign(study.direction)

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
