"""One fit of a task's head, judged on its validation part."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mf_core.config import Config, make_config
from mf_core.errors import TrainingError
from mf_core.models.factors import FactorModel
from mf_core.records import Progress
from mf_core.training.ranking_trials import validation_ndcg
from mf_core.training.search_rows import Part
from mf_core.tune.task import Task

if TYPE_CHECKING:
    from mf_core.solvers.solver import Factors, Solver

Figure = Callable[[], float | None]
AfterIteration = Callable[[int, Figure], None]


def fit_and_judge(
    task: Task, overrides: Mapping[str, Any], after: AfterIteration
) -> tuple[float, int]:
    """Fit the task's settings with `overrides` to the end.

    Returns the figure on the validation part, and the number of iterations run.
    `after(iteration, figure)` is called after every iteration and may raise to end the fit;
    `figure()` is what it has reached by then, None if there is no figure yet.

    Raises:
        TrainingError: training failed, or gave no figure.
    """
    config = make_config({**overrides, **_solver_overrides(task)}, task.config)
    fit = _rating_head if task.head == "rating" else _ranking_head
    value, iterations = fit(task, config, after)
    if value is None:
        raise TrainingError("the fit ended without a figure; raise its number of iterations.")
    return value, iterations


def _solver_overrides(task: Task) -> dict[str, Any]:
    """Return the values that the solver wants in every trial, by dotted name."""
    section = task.config.solver_section(task.head)
    wanted = task.config.solver_settings(task.head).tuning_overrides
    return {f"{section}.{name}": value for name, value in wanted.items()}


def _rating_head(task: Task, config: Config, after: AfterIteration) -> tuple[float | None, int]:
    from mf_core.solvers.fit import fit_rating_head

    keeps_last = config.rating_head.chosen().keeps_last
    reached: float | None = None

    def watch(_: "Solver", progress: Progress) -> None:
        """Keep what the fit has reached, and pass the iteration on."""
        nonlocal reached
        now = progress.validation_rmse
        if now is not None:
            # A mean of samples is kept as it ends, other solvers' best iteration as it was.
            reached = now if keeps_last or reached is None else min(now, reached)
        after(progress.iteration, lambda: reached)

    fit = fit_rating_head(
        config,
        task.fitted,
        users=task.rows.users,
        items=task.rows.items,
        attributes=task.attributes,
        validation=task.validation,
        watch=watch,
    )
    return fit.validation_rmse, fit.iterations


def _ranking_head(task: Task, config: Config, after: AfterIteration) -> tuple[float | None, int]:
    from mf_core.solvers.fit import fit_ranking_head

    users = task.rows.users
    items = task.rows.items

    def model(factors: "Factors") -> FactorModel:
        """Return the factors as a model of the task's ids."""
        return FactorModel(factors.mean, users=users, items=items, **factors.arrays())

    def watch(solver: "Solver", progress: Progress) -> None:
        """Pass the iteration on, with the lists that the fit would end in."""
        after(progress.iteration, lambda: _ndcg(task, config, model(solver.factors())))

    fit = fit_ranking_head(config, task.fitted, users, items, watch=watch)
    return _ndcg(task, config, fit.model), fit.iterations


def _ndcg(task: Task, config: Config, ranking: FactorModel) -> float:
    """Return the NDCG of the lists as the pipeline would make them, on the validation part."""
    part = Part(task.fitted, task.validation)
    by_user = validation_ndcg(config, ranking, part, rated=task.rows.ratings)
    return float(by_user.mean())
