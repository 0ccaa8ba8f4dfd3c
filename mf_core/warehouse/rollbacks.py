"""Where a rollback goes, and what it can choose from: the kept versions, when they were live."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError
from mf_core.warehouse import history
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import catalogue_of, sql

# A kept version is one whose table readers can reach and that is not about to go. It was live until
# the next promotion.
_CHOICES = """
WITH periods AS (
  SELECT model_version, promotion_id, promoted_at AS live_from,
    lead(promoted_at) OVER (ORDER BY promotion_id) AS live_until
  FROM {mf}.promotions
), last_periods AS (
  SELECT DISTINCT ON (model_version) * FROM periods ORDER BY model_version, promotion_id DESC
)
SELECT h.model_version, p.live_from, p.live_until, h.rmse, h.ndcg, h.cutoff
FROM {mf}.model_history AS h JOIN last_periods AS p USING (model_version)
WHERE NOT h.is_live AND h.retired_at IS NULL AND EXISTS (
  SELECT FROM pg_inherits
  WHERE inhparent = '{mf}.recommendation_rows'::regclass AND NOT inhdetachpending
    AND inhrelid = to_regclass(format('{mf}.recommendation_rows_v%s', h.model_version))
)
ORDER BY p.promotion_id DESC
"""


def rollback_target(
    connection: Connection, kept: Collection[int], wanted: int | None
) -> tuple[int, int, datetime]:
    """Return the version to go back to, the live one, and when the former was published.

    Without a `wanted` version that is the one that was live last, among those that are kept, were
    published before the live one, and were not left by a rollback: going back twice goes two
    versions back, and never to the one that the first rollback left.

    Raises:
        ConfigError: there is no such version.
    """
    live = history.live_version(connection)
    others = [version for version in history.by_last_promotion(connection) if version in kept]
    others = [version for version in others if version != live]
    if wanted is None:
        target = next(iter(_behind(connection, others, live)), None)
    else:
        target = wanted if wanted in others else None
    if target is None or live is None:
        what = "an earlier version" if wanted is None else f"version {wanted}"
        why = (
            ""
            if wanted is not None
            else " none of them was live before it and was not left by a rollback;"
        )
        catalogue = catalogue_of(connection)
        raise ConfigError(
            f"can't roll back to {what}: the kept versions are {others or 'none'}, live is {live};"
            f"{why} `{catalogue.command('history')}` lists them all, and "
            f"`{catalogue.command('rollback VERSION')}` takes any kept one."
        )
    m = t.models
    published_at = connection.scalar(sa.select(m.c.published_at).where(m.c.model_version == target))
    assert published_at is not None
    return target, live, published_at


def _behind(connection: Connection, others: list[int], live: int | None) -> list[int]:
    """Return those of `others` that were published before `live` and not left by a rollback."""
    p = t.promotions
    changes = connection.execute(
        sa.select(p.c.model_version, p.c.previous_version, p.c.action).order_by(p.c.promotion_id)
    )

    # In the order of their first publication; and how each version was last left.
    published: list[int] = []
    left_by: dict[int, str] = {}
    for version, previous, action in changes:
        if version not in published:
            published.append(version)
        if previous is not None:
            left_by[previous] = action

    earlier = set(published[: published.index(live)]) if live in published else set()
    return [v for v in others if v in earlier and left_by.get(v) == "publish"]


@dataclass(frozen=True)
class RollbackChoice:
    """A version that a rollback can make live again.

    Attributes:
        model_version: its number.
        live_from, live_until: when it was last live.
        rmse, ndcg: its figures on the test rows; None: unknown, or there are no ratings.
        cutoff: length of the lists that `ndcg` looks at.
        is_default: a rollback without a number goes here.
    """

    model_version: int
    live_from: datetime
    live_until: datetime | None
    rmse: float | None
    ndcg: float | None
    cutoff: int | None
    is_default: bool

    def period(self) -> str:
        """Return when it was live, such as `2026-11-24 02:13 to 2026-11-25 02:10 UTC`."""
        until = _minute(self.live_until) if self.live_until else "now"
        return f"{_minute(self.live_from)} to {until} UTC"

    def figures(self) -> str:
        """Return its figures in words."""
        known = []
        if self.rmse is not None:
            known.append(f"RMSE {self.rmse:.4f}")
        if self.ndcg is not None:
            known.append(f"NDCG@{self.cutoff} {self.ndcg:.4f}")
        return ", ".join(known) or "figures unknown"


def rollback_choices(connection: Connection) -> list[RollbackChoice]:
    """Return what a rollback can choose from, the version that was live last first."""
    rows = [dict(row) for row in connection.execute(sql(connection, _CHOICES)).mappings()]
    kept = {row["model_version"] for row in rows}
    try:
        default, _, _ = rollback_target(connection, kept, None)
    except ConfigError:
        # There is none behind the live version; a rollback has to name one.
        default = None
    return [RollbackChoice(**row, is_default=row["model_version"] == default) for row in rows]


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
