"""One fit of a task's head, judged on its validation part."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mf_core.config import Config, make_config
from mf_core.errors import TrainingError
from mf_core.factors import FactorModel
from mf_core.judging.metrics import list_quality
from mf_core.models.baselines import popularity
from mf_core.models.topn import with_popular_fallback
from mf_core.tune.task import Task

if TYPE_CHECKING:
    from mf_core.solvers.iterate import Factors, IterationReport, Solver

Figure = Callable[[], float | None]
AfterIteration = Callable[[int, Figure], None]


def fit_and_judge(
    task: Task, overrides: Mapping[str, Any], after: AfterIteration
) -> tuple[float, int]:
    """Fit the task's settings with `overrides` to the end; return the figure on the validation part, and the iterations run.

    `after(iteration, figure)` is called after every iteration and may raise to end the fit; `figure()` is what it has reached by
    then, None if there is no figure yet.

    Raises:
        TrainingError: training failed, or gave no figure.
    """
    # Kept samples are for standard deviations, which nobody asks for here.
    config = make_config({**overrides, "rating_head.bayes.kept_samples": 0}, task.config)
    value, iterations = (_rating_head if task.head == "rating" else _ranking_head)(
        task, config, after
    )
    if value is None:
        raise TrainingError("the fit ended without a figure; raise its number of iterations.")
    return value, iterations


def _rating_head(task: Task, config: Config, after: AfterIteration) -> tuple[float | None, int]:
    from mf_core.solvers.heads import fit_rating_head

    averages, best = config.rating_head.solver == "bayes", None

    def watch(_: "Solver", report: "IterationReport") -> None:
        nonlocal best
        if report.validation_rmse is not None:
            # A mean of samples is kept as it ends, other solvers' best iteration as it was.
            best = (
                report.validation_rmse
                if averages
                else min(report.validation_rmse, best or float("inf"))
            )
        after(report.iteration, lambda: best)

    ids = task.rows.users, task.rows.items
    fit = fit_rating_head(
        config,
        task.fitted,
        *ids,
        attributes=task.attributes,
        validation=task.validation,
        watch=watch,
    )
    return fit.validation_rmse, fit.iterations


def _ranking_head(task: Task, config: Config, after: AfterIteration) -> tuple[float | None, int]:
    from mf_core.solvers.heads import fit_ranking_head

    ids = task.rows.users, task.rows.items

    def model(factors: "Factors") -> FactorModel:
        return FactorModel(factors.mean, users=ids[0], items=ids[1], **factors.arrays())

    def watch(solver: "Solver", report: "IterationReport") -> None:
        after(report.iteration, lambda: _ndcg(task, config, model(solver.factors())))

    fit = fit_ranking_head(config, task.fitted, *ids, watch=watch)
    return _ndcg(task, config, fit.model), fit.iterations


def _ndcg(task: Task, config: Config, model: FactorModel) -> float:
    """Return the NDCG of the lists as the pipeline would make them, against the validation part."""
    counts = popularity(task.fitted, len(model.items), config.data.relevant_from)
    ordering = with_popular_fallback(model, counts)
    quality = list_quality(
        ordering,
        task.fitted,
        task.validation,
        config.data.relevant_from,
        config.gate.cutoff,
        config.recommend.tile_mib,
    )
    return float(quality.ndcg.sum() / quality.judged.sum())
