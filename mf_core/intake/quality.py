"""Checks of the ratings before anything is trained on them.

All checks that fail are named in one message.
"""

import math
from collections.abc import Iterator

from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config, DataConfig
from mf_core.errors import QualityError
from mf_core.records import QualityReport
from mf_core.warehouse import transaction
from mf_core.warehouse.schema import sql

# A DISTINCT in a subquery may use a hash, which count(DISTINCT ...) never does. An empty table has
# no lowest rating; it is refused for its count, so 0 does no harm.
_FIGURES = """
SELECT
    count(*) AS n_ratings,
    (SELECT count(*) FROM (SELECT DISTINCT user_id FROM {mf}.ratings) AS u) AS n_users,
    (SELECT count(*) FROM (SELECT DISTINCT item_id FROM {mf}.ratings) AS i) AS n_items,
    coalesce(min(rating), 0) AS lowest,
    coalesce(max(rating), 0) AS highest,
    coalesce(avg(rating), 0) AS mean,
    count(*) FILTER (WHERE NOT rating BETWEEN :low AND :high) AS out_of_scale
FROM {mf}.ratings
"""

# The newest snapshot holds what the last training saw.
_LAST_TRAINED = """
SELECT n_train + n_test
FROM {mf}.snapshots
ORDER BY created_at DESC
LIMIT 1
"""


def check_ratings(engine: Engine, config: Config) -> QualityReport:
    """Return the figures of `mf.ratings` if they are good enough to train on (settings `data.*`).

    Raises:
        QualityError: too few ratings, users or items, ratings outside the scale or all of one
            value, no event with a positive weight, or a volume that jumped against the last
            trained data. The message names every check that failed, with its figure and its limit.
        DatabaseError: Postgres did not answer.
    """
    # One state of the table for both statements.
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        report, out_of_scale = _measure(connection, config.data)

    problems = [
        *_too_few(report, config.data),
        *_off_scale(report, out_of_scale, config.data),
        *_all_alike(report, config.data),
        *_volume_jumps(report, config.data),
    ]
    if problems:
        raise QualityError(
            f"{'; '.join(problems)}. Nothing was trained and recommendations are unchanged; "
            "see docs/runbook.md#check."
        )
    return report


def _measure(connection: Connection, data: DataConfig) -> tuple[QualityReport, int]:
    """Return the figures, and how many ratings lie outside the scale."""
    # Weights of events have no scale; they are numbers.
    scale = {"low": -math.inf, "high": math.inf}
    if data.kind == "ratings":
        scale = {"low": data.scale_low, "high": data.scale_high}
    row = connection.execute(sql(connection, _FIGURES), scale).one()

    # Before the first training there is nothing to compare with.
    last = connection.scalar(sql(connection, _LAST_TRAINED))
    volume_change = (row.n_ratings - last) / last if last else None

    report = QualityReport(
        n_ratings=row.n_ratings,
        n_users=row.n_users,
        n_items=row.n_items,
        lowest_rating=row.lowest,
        highest_rating=row.highest,
        mean_rating=row.mean,
        volume_change=volume_change,
        kind=data.kind,
    )
    return report, row.out_of_scale


def _too_few(report: QualityReport, data: DataConfig) -> list[str]:
    """Return a problem for each count that is below its limit."""
    limits = (
        ("ratings", report.n_ratings, data.min_ratings),
        ("users", report.n_users, data.min_users),
        ("items", report.n_items, data.min_items),
    )
    problems = []
    for what, n, least in limits:
        if n < least:
            problems.append(f"{n:,} {what}, expected at least {least:,} (data.min_{what})")
    return problems


def _off_scale(report: QualityReport, out_of_scale: int, data: DataConfig) -> list[str]:
    """Return a problem if a rating lies outside the configured scale."""
    if data.kind == "events":
        return list(_useless_weights(report, out_of_scale))
    if not out_of_scale:
        return []

    scale = f"{data.scale_low:g} to {data.scale_high:g} (data.scale_low, data.scale_high)"
    found = f"{report.lowest_rating:g} to {report.highest_rating:g}"
    return [f"{out_of_scale:,} ratings outside the scale {scale}, found {found}"]


def _all_alike(report: QualityReport, data: DataConfig) -> list[str]:
    """Return a problem if all ratings have one value, from which nothing can be learned."""
    value = report.lowest_rating
    if data.kind == "events" or report.n_ratings < 2 or value != report.highest_rating:
        return []

    found = f"all {report.n_ratings:,} ratings are {value:g}"
    advice = "set data.kind=events, and load them once with data.ingest_mode=replace"
    return [f"{found}: these are events without ratings; {advice}"]


def _useless_weights(report: QualityReport, not_numbers: int) -> Iterator[str]:
    """Yield a problem if weights are no numbers, or none of them is above 0."""
    if not_numbers:
        yield f"{not_numbers:,} weights of events are not numbers"
    elif report.n_ratings and report.highest_rating <= 0:
        yield (
            f"no pair of user and item has a positive weight, the highest is "
            f"{report.highest_rating:g}, so nothing says what users want (data.event_weights)"
        )


def _volume_jumps(report: QualityReport, data: DataConfig) -> list[str]:
    """Return a problem if the ratings became far fewer or far more than at the last training."""
    change = report.volume_change
    if change is None or -data.max_volume_drop <= change <= data.max_volume_growth:
        return []

    if change < 0:
        limit = f"data.max_volume_drop {data.max_volume_drop:.0%}"
    else:
        limit = f"data.max_volume_growth {data.max_volume_growth:.0%}"
    found = f"{report.n_ratings:,} ratings, {change:+.1%} against the last trained data"
    return [f"{found}; expected at most {limit}"]
