"""Metrics of the runs, through Airflow's own client: StatsD, OpenTelemetry or Datadog.

Which one, and where to, says Airflow's section `[metrics]`. All of them are off by default, and
then nothing is counted or asked here. All metrics are gauges with tags. So they have one name in
Prometheus, whichever way they come: `mf.rmse` is `airflow_mf_rmse` there.

Metrics are news of a run and no part of it: whatever is wrong with them is a line in the log.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from mf_core.records import EvalReport, ModelRef, Progress, PublishReport
from mf_dags.features import conf
from mf_dags.sites import current_site

if TYPE_CHECKING:
    from mf_core.pipeline import Workplace

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

# Any of these options of `[metrics]` turns Airflow's client on.
_SWITCHES = ("statsd_on", "otel_on", "statsd_datadog_enabled")
_ENDS = ("published", "nothing_new", "dry_run", "refused", "failed")


@dataclass(frozen=True)
class Metric:
    """A gauge.

    Attributes:
        name: as Airflow's client gets it, which puts a prefix before it (`airflow.`).
        unit: what it counts.
        help: what it says.
        tags: tags of its own; each metric also has `schema`, that of the catalogue.
    """

    name: str
    unit: str
    help: str
    tags: tuple[str, ...] = ()

    @property
    def in_prometheus(self) -> str:
        """Its name in Prometheus, with Airflow's prefix as it is by default."""
        return f"airflow_{self.name.replace('.', '_')}"


STEP_SECONDS = Metric(
    "mf.step_seconds", "seconds", "How long a step took, failed or not.", ("step",)
)
ITERATION_SECONDS = Metric(
    "mf.iteration_seconds", "seconds", "A sweep (epoch, step) of a fit, in the mean.", ("head",)
)
FIT_SECONDS = Metric(
    "mf.fit_seconds", "seconds", "Training of both heads, imports excluded.", ("stage",)
)
PEAK_BYTES = Metric(
    "mf.training_peak_bytes",
    "bytes",
    "Most memory that a training held: of the GPU, or of its process on a CPU.",
    ("stage",),
)
RMSE = Metric(
    "mf.rmse", "rating", "Test RMSE of the latest candidate, published or not; none of events."
)
NDCG = Metric(
    "mf.ndcg", "0 to 1", "NDCG of its lists on the test rows, at the cutoff.", ("cutoff",)
)
COVERAGE = Metric(
    "mf.coverage", "0 to 1", "Share of the items that its lists show to anybody.", ("cutoff",)
)
LIST_USERS = Metric(
    "mf.list_users", "users", "Users who have a list in the version that went live."
)
LIST_ROWS = Metric("mf.list_rows", "rows", "Rows of that version, the reserve included.")
ROWS_READ = Metric("mf.rows_read", "rows", "Rows of the last batch of ratings that was offered.")
ROWS_REJECTED = Metric("mf.rows_rejected", "rows", "Those of them that were not loaded.")
BATCH_REFUSED = Metric("mf.batch_refused", "0 or 1", "1: that batch was refused as a whole.")
RATINGS = Metric("mf.ratings", "ratings", "Ratings in the warehouse after it.")
LISTS_TIME = Metric(
    "mf.lists_published_time",
    "seconds since 1970",
    "When the lists that readers see first went live; time() less this is their age.",
)
LAST_RUN = Metric(
    "mf.last_run",
    "0 or 1",
    "1 for the outcome of the last run that ended, 0 for others.",
    ("outcome",),
)
LAST_RUN_TIME = Metric("mf.last_run_time", "seconds since 1970", "When that run ended.")
LAST_RUN_SECONDS = Metric("mf.last_run_seconds", "seconds", "How long that run took.")

METRICS = (
    *(STEP_SECONDS, ITERATION_SECONDS, FIT_SECONDS, PEAK_BYTES),
    *(RMSE, NDCG, COVERAGE, LIST_USERS, LIST_ROWS),
    *(ROWS_READ, ROWS_REJECTED, BATCH_REFUSED, RATINGS),
    *(LISTS_TIME, LAST_RUN, LAST_RUN_TIME, LAST_RUN_SECONDS),
)
"""All metrics, in the order of docs/howto/monitoring.md."""

Reading = tuple[Metric, float | None, dict[str, str]]


def are_on() -> bool:
    """Say whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES)


def send(metric: Metric, value: float | None, **tags: str) -> None:
    """Send one reading, if metrics are on; None and what is no finite number is left out."""
    try:
        if value is None or not math.isfinite(value) or not are_on():
            return
        _client().gauge(
            metric.name, value, tags={"schema": current_site().catalogue.schema, **tags}
        )
    except Exception as error:
        log.warning("The metric %s was not sent: %s: %s", metric.name, type(error).__name__, error)


def measured(function: Callable[P, R]) -> Callable[P, R]:
    """Let a task's function send how long it took, and the figures of what it returns."""

    @wraps(function)
    def measuring(*args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function."""
        started = time.monotonic()
        try:
            result = function(*args, **kwargs)
        finally:
            send(STEP_SECONDS, time.monotonic() - started, step=function.__name__)
        for metric, value, tags in _readings(result):
            send(metric, value, **tags)
        return result

    return measuring


def send_progress(progress: Progress) -> None:
    """Send the pace of a fit that is under way."""
    send(ITERATION_SECONDS, progress.iteration_seconds, head=progress.head)


def send_state(place: "Workplace") -> None:
    """Send what the warehouse says at the end of a run: the lists, the last run, the last batch."""
    if not are_on():
        return
    from mf_core.warehouse import readers, transaction

    try:
        with transaction(place.engine) as connection:
            found = readers.monitored(connection)
    except Exception as error:
        log.warning("The warehouse's metrics were not sent: %s: %s", type(error).__name__, error)
        return
    for metric, value, tags in _readings_of_state(found):
        send(metric, value, **tags)


def _readings(result: object) -> Iterator[Reading]:
    """Yield the figures of what a step returns."""
    if isinstance(result, ModelRef):
        stage = {"stage": result.stage}
        yield FIT_SECONDS, result.fit_seconds, stage
        yield PEAK_BYTES, result.peak_bytes, stage
    elif isinstance(result, EvalReport):
        cutoff = {"cutoff": f"{result.cutoff}"}
        yield RMSE, result.rmse, {}
        yield NDCG, result.ndcg, cutoff
        yield COVERAGE, result.coverage, cutoff
    elif isinstance(result, PublishReport):
        yield LIST_USERS, result.users, {}
        yield LIST_ROWS, result.rows, {}


def _readings_of_state(found: dict[str, dict[str, Any]]) -> Iterator[Reading]:
    """Yield the figures of `readers.monitored`."""
    published_at = found["lists"].get("published_at")
    if published_at is not None:
        yield LISTS_TIME, int(published_at.timestamp()), {}
    run = found["last_run"]
    if run:
        for outcome in _ENDS:
            yield LAST_RUN, int(run["outcome"] == outcome), {"outcome": outcome}
        yield LAST_RUN_TIME, int(run["ended_at"].timestamp()), {}
        yield LAST_RUN_SECONDS, run["seconds"], {}
    batch = found["last_batch"]
    if batch:
        yield ROWS_READ, batch["rows_read"], {}
        yield ROWS_REJECTED, batch["rows_rejected"], {}
        yield BATCH_REFUSED, int(batch["state"] == "refused"), {}
        yield RATINGS, batch["total_ratings"], {}


def _client() -> Any:
    """Return Airflow's client for metrics, which is set up in every task's process."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # Airflow 3.1
        from airflow.stats import Stats
    return Stats
