"""What a rollback can choose from: the kept versions, when they were live, how good they were."""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError
from mf_core.warehouse import versions

# A kept version is one whose table readers can reach. It was live until the next promotion.
_CHOICES = """
WITH periods AS (
  SELECT model_version, promotion_id, promoted_at AS live_from,
    lead(promoted_at) OVER (ORDER BY promotion_id) AS live_until
  FROM mf.promotions
), last_periods AS (
  SELECT DISTINCT ON (model_version) * FROM periods ORDER BY model_version, promotion_id DESC
)
SELECT h.model_version, p.live_from, p.live_until, h.rmse, h.ndcg, h.cutoff
FROM mf.model_history AS h JOIN last_periods AS p USING (model_version)
WHERE NOT h.is_live AND EXISTS (
  SELECT FROM pg_inherits
  WHERE inhparent = 'mf.recommendation_rows'::regclass AND NOT inhdetachpending
    AND inhrelid = to_regclass(format('mf.recommendation_rows_v%s', h.model_version))
)
ORDER BY p.promotion_id DESC
"""


@dataclass(frozen=True)
class RollbackChoice:
    """A version that a rollback can make live again.

    Attributes:
        model_version: its number.
        live_from, live_until: when it was last live.
        rmse, ndcg: its figures on the test rows; None: unknown.
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
        rmse = "unknown" if self.rmse is None else f"{self.rmse:.4f}"
        ndcg = "" if self.ndcg is None else f", NDCG@{self.cutoff} {self.ndcg:.4f}"
        return f"RMSE {rmse}{ndcg}"


def rollback_choices(connection: Connection) -> list[RollbackChoice]:
    """Return what a rollback can choose from, the version that was live last first."""
    rows = [dict(row) for row in connection.execute(sa.text(_CHOICES)).mappings()]
    kept = {row["model_version"] for row in rows}
    try:
        default, _, _ = versions.rollback_target(connection, kept, None)
    except ConfigError:
        # There is none behind the live version; a rollback has to name one.
        default = None
    return [RollbackChoice(**row, is_default=row["model_version"] == default) for row in rows]


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
