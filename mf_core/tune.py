"""`mf tune`: choose settings on a validation part of the training rows; test rows never come here.

The search is Optuna's: a tree-structured Parzen estimator proposes (Bergstra et al. 2011), asynchronous successive halving stops
what does badly early (Li et al. 2020). A trial fits on nine tenths of the training rows, iteration by iteration with the
pipeline's own loop and early stopping, and is judged on the other tenth: the rating head by its RMSE, predictions clipped to the
scale; the ranking head by the NDCG of its lists. The tenth is chosen by a hash of the ids.

A study lies in the warehouse (schema `mf_tune`). Run again under its name it goes on, and several processes may work on one.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from mf_core.attributes import AttributeMatrices, Attributes, encode_sides
from mf_core.backtest import read_files
from mf_core.baselines import popularity
from mf_core.config import Config, Setting, make_config, settings
from mf_core.errors import ConfigError, DatabaseError, InputError, QualityError, TrainingError
from mf_core.factors import FactorModel
from mf_core.metrics import list_quality
from mf_core.ratings import IdMap, Ratings, pair_draws
from mf_core.snapshot import Snapshot, content_hash, sort_ratings
from mf_core.split import take_snapshot
from mf_core.topn import with_popular_fallback
from mf_core.warehouse.engine import transaction, translated_errors

if TYPE_CHECKING:
    from mf_core.solvers.iterate import Factors, IterationReport, Solver

Head = Literal["rating", "ranking"]
Log = Callable[[str], None]
SCHEMA = "mf_tune"

VALIDATION_FRACTION = 0.1
_VALIDATION_SEED = 1_000_003
"""Another one than any split's or fit's, so that their parts and this one have nothing to do with each other."""
_REDUCTION = 3
_RUNGS_BELOW_THE_END = 2
_FAILURES_IN_A_ROW = 3
_HEARTBEAT_SECONDS, _GRACE = 15, 4
_LOCK = 0x6D665F74756E65  # "mf_tune", for pg_advisory_xact_lock


@dataclass(frozen=True)
class Range:
    """Where to look for one setting, and at its present value; its type, and narrower bounds, are those of the setting itself."""

    name: str
    low: float
    high: float
    log: bool = True


SPACES: Mapping[str, tuple[Range, ...]] = {
    "bayes": (
        Range("rating_head.bayes.n_factors", 4, 64),
        Range("rating_head.bayes.pattern_rank", 16, 512),
    ),
    "als": (
        Range("rating_head.als.n_factors", 4, 128),
        Range("rating_head.als.regularization", 0.01, 1.0),
        Range("rating_head.als.bias_regularization", 0.1, 30.0),
    ),
    "gradient": (
        Range("rating_head.gradient.n_factors", 4, 128),
        Range("rating_head.gradient.learning_rate", 1e-4, 0.1),
        Range("rating_head.gradient.regularization", 1e-3, 2.0),
        Range("rating_head.gradient.batch_size", 256, 16_384),
    ),
    "ranking": (
        Range("ranking_head.n_factors", 8, 256),
        Range("ranking_head.unobserved_weight", 1e-3, 1.0),
        Range("ranking_head.regularization", 1e-4, 1.0),
        Range("ranking_head.regularization_exponent", 0.0, 2.0, log=False),
        Range("ranking_head.lowest_target", 0.0, 1.0, log=False),
    ),
}
"""What is searched, by the rating head's solver, and for the ranking head. What only trades time for accuracy is not."""


def search_space(config: Config, head: Head) -> dict[str, BaseDistribution]:
    """Return what is searched for the head that `config` sets up, by the name of the setting.

    Raises:
        ConfigError: the solver has nothing to tune.
    """
    if head == "rating" and config.rating_head.solver == "gradient" and config.rating_head.gradient.preset == "seed":
        raise ConfigError("preset `seed` is the 2016 post's model, constants included; set rating_head.gradient.preset=biased.")
    known = {setting.name: setting for setting in settings(config)}
    ranges = SPACES[config.rating_head.solver if head == "rating" else "ranking"]
    # What is switched off (0 on a logarithmic range) stays off.
    return {r.name: _distribution(r, known[r.name]) for r in ranges if known[r.name].default or not r.log}


def _distribution(wanted: Range, setting: Setting) -> BaseDistribution:
    schema, now = setting.schema, setting.default
    low = max(min(wanted.low, now), schema.get("minimum", wanted.low))
    high = min(max(wanted.high, now), schema.get("maximum", wanted.high))
    if schema["type"] == "integer":
        return IntDistribution(int(low), int(high), log=wanted.log)
    return FloatDistribution(low, high, log=wanted.log)


@dataclass(frozen=True)
class TrainingRows:
    """Training ratings alone: no test rating, and no id that occurs among test ratings only. Sorted by (user, item).

    `attributes` are those of the rows of `users` and `items`; None where the settings have no use for them.
    """

    users: IdMap
    items: IdMap
    ratings: Ratings
    attributes: Attributes | None = None


def training_rows(snapshot: Snapshot) -> TrainingRows:
    """Return the training side by itself."""
    warm_users, warm_items = snapshot.warm()
    user, item = np.cumsum(warm_users) - 1, np.cumsum(warm_items) - 1
    train = snapshot.train
    rows = Ratings(user[train.user].astype(np.int32), item[train.item].astype(np.int32), train.value)
    known = snapshot.attributes
    attributes = Attributes(known.user[warm_users], known.item[warm_items]) if known else None
    return TrainingRows(IdMap(snapshot.users.ids[warm_users]), IdMap(snapshot.items.ids[warm_items]), rows, attributes)


def read_warehouse(config: Config, engine: Engine) -> TrainingRows:
    """Return the training rows of `mf.ratings` as they stand now. Raises QualityError or DatabaseError."""
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        snapshot = take_snapshot(connection, config.split, with_attributes=config.rating_head.uses_attributes())
    return training_rows(snapshot)


def read_training_file(config: Config, uri: str) -> TrainingRows:
    """Return the rows of one file; those that its side column calls test are left out. Raises InputError."""
    files = read_files(make_config({"source.uri": uri, "source.test_uri": ""}, config))
    if files.is_test.all():
        raise InputError(f"{uri} has no training row; name a file of training ratings.")
    train = sort_ratings(files.ratings.take(~files.is_test))
    nothing = train.take(np.zeros(len(train), bool))
    return training_rows(Snapshot(files.users, files.items, train, nothing, files.attributes))


@dataclass(frozen=True)
class Task:
    """What every trial of a study has in common.

    Attributes:
        config: the settings that the trials' own are put over.
        head: rating or ranking.
        rows: the training rows.
        fitted, validation: nine tenths of their ratings, and the other tenth.
        attributes: what the rating head makes of the rows' attributes; None if nothing.
    """

    config: Config
    head: Head
    rows: TrainingRows
    fitted: Ratings
    validation: Ratings
    attributes: AttributeMatrices | None = None

    @property
    def metric(self) -> str:
        """Return the figure's name."""
        return "RMSE" if self.head == "rating" else f"NDCG@{self.config.gate.cutoff}"

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Return what is searched."""
        return search_space(self.config, self.head)

    def fingerprint(self) -> str:
        """sha256 (hex) over all that the trials' figures depend on beside their own settings."""
        rows = content_hash(Snapshot(self.rows.users, self.rows.items, self.fitted, self.validation, self.rows.attributes))
        mine = {s.name: s.default for s in settings(self.config) if s.name.startswith(("data.", f"{self.head}_head."))}
        mine |= {"seed": self.config.train.seed, "cutoff": self.config.gate.cutoff}
        for name in self.space:
            del mine[name]
        return hashlib.sha256(json.dumps([rows, mine, self.head], sort_keys=True).encode()).hexdigest()

    def default_study(self) -> str:
        """Return the name of the study of these very rows and settings."""
        solver = f"-{self.config.rating_head.solver}" if self.head == "rating" else ""
        return f"{self.head}{solver}-{self.fingerprint()[:8]}"


def make_task(config: Config, head: Head, rows: TrainingRows) -> Task:
    """Set the validation part aside.

    Raises:
        QualityError: there are too few ratings for that.
        ConfigError: the solver has nothing to tune.
    """
    search_space(config, head)
    held_out = pair_draws(rows.ratings, rows.users, rows.items, _VALIDATION_SEED) < VALIDATION_FRACTION
    validation = rows.ratings.take(held_out)
    fitted = rows.ratings.take(~held_out)
    needed = config.data.relevant_from if head == "ranking" else -np.inf
    if not all((part.value >= needed).any() for part in (fitted, validation)):
        raise QualityError(f"{len(rows.ratings):,} training ratings are too few to set a validation part aside; load more.")
    attributes = encode_sides(rows.attributes)[0] if rows.attributes and head == "rating" else None
    return Task(config, head, rows, fitted, validation, attributes)


@dataclass(frozen=True)
class TrialReport:
    """One trial. `value` is its last figure, None where it had none; `settings` what it tried, by name."""

    number: int
    state: str
    value: float | None
    iterations: int | None
    seconds: float | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class TuneReport:
    """A study as it stands: finished trials best first, then the others; trial 0 has the settings that it was begun with."""

    study: str
    metric: str
    trials: list[TrialReport]

    @property
    def finished(self) -> list[TrialReport]:
        """Return the trials that ran to their end, best first."""
        return [trial for trial in self.trials if trial.state == "complete"]

    def best_toml(self) -> str:
        """Return the best settings for the file named by MF_CONFIG; empty if no trial has finished."""
        sections: dict[str, list[str]] = {}
        for name, value in self.finished[0].settings.items() if self.finished else ():
            section, _, leaf = name.rpartition(".")
            sections.setdefault(section, []).append(f"{leaf} = {value!r}")
        return "\n\n".join("\n".join([f"[{section}]", *lines]) for section, lines in sections.items())


def tune(
    task: Task,
    engine: Engine,
    study_name: str,
    seconds: float,
    log: Log,
    max_trials: int | None = None,
    heartbeat_seconds: int = _HEARTBEAT_SECONDS,
) -> TuneReport:
    """Search for `seconds`, and return the study as it then stands.

    The first trial has the settings of the task as they are, and is run to its end whatever the time; later ones are broken off
    when the time is up, and put in line again.

    Args:
        task: what is fitted and judged on what.
        engine: the warehouse.
        study_name: a new name begins a study; a known one goes on with it.
        seconds: time budget of this process.
        log: called with lines for people.
        max_trials: fewer trials than the time allows; None: no limit.
        heartbeat_seconds: a trial without a sign of life for four times as long counts as killed, and is run again once.

    Raises:
        ConfigError: the study was begun on other rows or settings, or the schema is missing.
        TrainingError: several trials in a row failed.
        DatabaseError: Postgres broke off.
    """
    with _optuna_quiet(), _translated_errors():
        study = _open_study(task, engine, study_name, heartbeat_seconds)
        objective = _Objective(task, study, time.monotonic() + seconds, log)
        study.optimize(objective, n_trials=max_trials, timeout=seconds, catch=(_BrokenOffError,))
        return _report(study)


def show(engine: Engine, study_name: str) -> TuneReport:
    """Return a study as it stands. Raises ConfigError if there is none of that name, or DatabaseError."""
    with _optuna_quiet(), _translated_errors():
        storage = _storage(engine, None)
        if study_name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"there is no study {study_name!r}; `mf tune --show` lists them.")
        return _report(optuna.load_study(study_name=study_name, storage=storage))


def studies(engine: Engine) -> list[dict[str, Any]]:
    """Return all studies: name, figure, number of trials, best value, begin. Raises DatabaseError."""
    with _optuna_quiet(), _translated_errors():
        storage = _storage(engine, None)
        reports = [_report(optuna.load_study(study_name=s, storage=storage)) for s in optuna.get_all_study_names(storage)]
    return [
        {"study": r.study, "metric": r.metric, "trials": len(r.trials), "best": r.finished[0].value if r.finished else None}
        for r in reports
    ]


def _open_study(task: Task, engine: Engine, name: str, heartbeat_seconds: int) -> optuna.Study:
    """Load or begin the study; one process at a time, so that only one of them puts the first trial in line."""
    direction: Literal["minimize", "maximize"] = "minimize" if task.head == "rating" else "maximize"
    fingerprint = task.fingerprint()
    storage = _storage(engine, heartbeat_seconds)
    with transaction(engine) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction=direction,
            sampler=TrialSeededSampler(task.config.train.seed),
            pruner=_pruner(task.config, task.head),
        )
        if not study.user_attrs:
            study.set_user_attr("metric", task.metric)
            study.set_user_attr("task", fingerprint)
            now = {setting.name: setting.default for setting in settings(task.config)}
            study.enqueue_trial({name: now[name] for name in task.space})
    if study.user_attrs.get("task") != fingerprint:
        raise ConfigError(
            f"study {name!r} was begun on other training rows or with other fixed settings, so its figures are not comparable "
            "with tonight's. Name another one with --study, or none."
        )
    return study


def _pruner(config: Config, head: Head) -> optuna.pruners.BasePruner:
    """Return successive halving: a third goes on at a third and at a ninth of the iterations, the burn-in not counted."""
    first = first_rung(config, head)
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=_REDUCTION)


def first_rung(config: Config, head: Head) -> int:
    """Return the iteration at which trials are compared first."""
    limit, burn_in = config.ranking_head.iterations if head == "ranking" else config.rating_head.iteration_limit(), 0
    if head == "rating" and config.rating_head.solver == "bayes":
        burn_in = min(config.rating_head.bayes.burn_in, limit // 2)
    return max(2, burn_in + (limit - burn_in) // _REDUCTION**_RUNGS_BELOW_THE_END)


class _BrokenOffError(Exception):
    """The trial has no figure to keep: the time was up, or it failed."""


@dataclass
class _Objective:
    """Runs one trial after the other. `failures` counts those in a row."""

    task: Task
    study: optuna.Study
    deadline: float
    log: Log
    failures: int = field(default=0)

    def __call__(self, trial: optuna.Trial) -> float:
        overrides = {name: _suggest(trial, name, distribution) for name, distribution in self.task.space.items()}
        # Kept samples are for standard deviations, which nobody asks for here.
        config, started = make_config({**overrides, "rating_head.bayes.kept_samples": 0}, self.task.config), time.monotonic()
        try:
            value = _Fit(self.task, config, trial, self._check_time).run()
        except KeyboardInterrupt:
            _put_in_line_again(self.study, trial.number, trial.params, trial.user_attrs)
            raise
        except optuna.TrialPruned:
            self._say(trial, f"stopped after {trial.user_attrs['iterations']} iterations")
            raise
        except TrainingError as error:
            self._failed(trial, error)
        finally:
            trial.set_user_attr("seconds", time.monotonic() - started)
        self.failures = 0
        self._say(trial, f"{self.task.metric} {value:.4f} in {trial.user_attrs['iterations']} iterations")
        return value

    def _check_time(self, trial: optuna.Trial) -> None:
        if not _is_first(trial) and time.monotonic() > self.deadline:
            _put_in_line_again(self.study, trial.number, trial.params, trial.user_attrs)
            self._say(trial, "broken off, the time is up")
            raise _BrokenOffError

    def _failed(self, trial: optuna.Trial, error: TrainingError) -> None:
        self.failures += 1
        self._say(trial, f"failed: {error}")
        if _is_first(trial) or self.failures >= _FAILURES_IN_A_ROW:
            raise error
        raise _BrokenOffError from error

    def _say(self, trial: optuna.Trial, what: str) -> None:
        tried = ", ".join(f"{name.rpartition('.')[2]} {value:.4g}" for name, value in trial.params.items())
        self.log(f"trial {trial.number} ({tried}): {what}")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


class _Fit:
    """The fit of one trial: `run` it to get its figure."""

    def __init__(self, task: Task, config: Config, trial: optuna.Trial, check_time: Callable[[optuna.Trial], None]) -> None:
        """`config` holds the trial's own settings; `check_time` is called after every iteration and may raise."""
        self._task, self._config, self._trial, self._check_time = task, config, trial, check_time
        self._next_rung = first_rung(task.config, task.head)
        self._best: float | None = None

    def run(self) -> float:
        """Fit to the end and return the figure on the validation part.

        Raises:
            TrialPruned: others did better at a rung.
            TrainingError: training failed, or gave no figure.
        """
        from mf_core.solvers.heads import fit_ranking_head, fit_rating_head

        task, ids = self._task, (self._task.rows.users, self._task.rows.items)
        value: float | None
        if task.head == "rating":
            fit = fit_rating_head(
                self._config,
                task.fitted,
                *ids,
                attributes=task.attributes,
                validation=task.validation,
                watch=self._after_iteration,
            )
            value = fit.validation_rmse
        else:
            fit = fit_ranking_head(self._config, task.fitted, *ids, watch=self._after_iteration)
            value = self._ndcg(fit.model)
        self._trial.set_user_attr("iterations", fit.iterations)
        if value is None:
            raise TrainingError("the fit ended without a figure; raise its number of iterations.")
        return value

    def _after_iteration(self, solver: "Solver", report: "IterationReport") -> None:
        self._check_time(self._trial)
        if report.validation_rmse is not None:
            averages = self._config.rating_head.solver == "bayes"
            self._best = report.validation_rmse if averages else min(report.validation_rmse, self._best or float("inf"))
        if report.iteration < self._next_rung:
            return
        self._next_rung *= _REDUCTION
        value = self._best if self._task.head == "rating" else self._ndcg(self._model(solver.factors()))
        if value is None:
            return
        self._trial.set_user_attr("iterations", report.iteration)
        self._trial.report(value, report.iteration)
        if self._trial.should_prune() and not _is_first(self._trial):
            raise optuna.TrialPruned

    def _model(self, factors: "Factors") -> FactorModel:
        return FactorModel(mean=factors.mean, users=self._task.rows.users, items=self._task.rows.items, **factors.arrays())

    def _ndcg(self, model: FactorModel) -> float:
        """Return the NDCG of the lists as the pipeline would make them, against the validation part."""
        task, config = self._task, self._config
        counts = popularity(task.fitted, len(model.items), config.data.relevant_from)
        ordering = with_popular_fallback(model, counts)
        quality = list_quality(
            ordering, task.fitted, task.validation, config.data.relevant_from, config.gate.cutoff, config.recommend.tile_mib
        )
        return float(quality.ndcg.sum() / quality.judged.sum())


class TrialSeededSampler(optuna.samplers.BaseSampler):
    """A tree-structured Parzen estimator whose draws depend on the seed and the trial's number.

    One generator for all trials would begin anew with every process: a study gone on with, and one that two processes work on,
    would try the same settings twice.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is the study's."""
        self._seed = seed
        self._tpe = self._of(0)

    def _of(self, number: int) -> optuna.samplers.TPESampler:
        [seed] = np.random.SeedSequence([self._seed, number]).generate_state(1)
        return optuna.samplers.TPESampler(seed=int(seed))

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the trial's own sequence of draws."""
        self._tpe = self._of(trial.number)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As `BaseSampler` says."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As `BaseSampler` says."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As `BaseSampler` says."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def _is_first(trial: optuna.Trial) -> bool:
    """Say whether these are the settings that the study was begun with, which the others are compared with."""
    return 0 in (trial.number, trial.user_attrs.get("again_of"))


def _put_in_line_again(study: optuna.Study, number: int, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Have settings tried again whose trial did not end; once, lest what kills a process does so for ever."""
    if params and "again_of" not in attributes:
        study.enqueue_trial(dict(params), user_attrs={"again_of": number})


def _storage(engine: Engine, heartbeat_seconds: int | None) -> optuna.storages.RDBStorage:
    """Return Optuna's storage in the warehouse, its tables made where they are missing.

    Raises:
        ConfigError: the schema is missing.
    """
    with transaction(engine) as connection:
        if not connection.scalar(sa.select(sa.func.to_regnamespace(SCHEMA))):
            raise ConfigError(f"the warehouse has no schema {SCHEMA}; bring it up to date with `mf db migrate`.")
        # Two processes that make the tables at once would stumble over each other.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        url = engine.url.update_query_dict({"options": f"-csearch_path={SCHEMA}"}).render_as_string(hide_password=False)
        with warnings.catch_warnings():
            # Signs of life are an experiment of Optuna's since 2021.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # it fills a template
                heartbeat_interval=heartbeat_seconds,
                grace_period=heartbeat_seconds and _GRACE * heartbeat_seconds,
                heartbeat_stale_trial_callback=lambda study, trial: _put_in_line_again(
                    study, trial.number, trial.params, trial.user_attrs
                ),
            )


@contextmanager
def _optuna_quiet() -> Iterator[None]:
    """Keep Optuna's own lines back; what matters is said here."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn what Optuna makes of a database that broke off into `DatabaseError`."""
    try:
        with translated_errors():
            yield
    except optuna.exceptions.StorageInternalError as error:
        raise DatabaseError(f"Postgres broke off in a study: {error.__cause__ or error}. Check MF_DATABASE_URL.") from error
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise TrainingError(
            "this process gave no sign of life for so long that another one took its trial for killed. Start it again: the study "
            "goes on."
        ) from error


def _report(study: optuna.Study) -> TuneReport:
    trials = sorted(map(_trial_report, study.get_trials(deepcopy=False)), key=_standing(study.direction))
    return TuneReport(study.study_name, study.user_attrs.get("metric", ""), trials)


def _standing(direction: StudyDirection) -> Callable[[TrialReport], tuple[bool, bool, float]]:
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0

    def standing(trial: TrialReport) -> tuple[bool, bool, float]:
        return trial.state != "complete", trial.value is None, sign * (trial.value or 0.0)

    return standing


def _trial_report(trial: FrozenTrial) -> TrialReport:
    value = trial.value
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    attributes = trial.user_attrs
    return TrialReport(
        trial.number, trial.state.name.lower(), value, attributes.get("iterations"), attributes.get("seconds"), trial.params
    )
