"""The report at the end of a demo: its figures, read from the warehouse with SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mf_core.figures import NDCG

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from mf_core.data.snapshot import Snapshot

LIST_SQL = """SELECT r.rank, r.item_id, i.title, r.predicted_rating
FROM mf.recommendations AS r LEFT JOIN mf.items AS i USING (item_id)
WHERE r.user_id = '{user_id}' ORDER BY r.rank;"""

# A run that was started over has the version of its last start, under RUN_ID#N.
_RUN = """
SELECT m.model_version,
       m.config #>> '{source,uri}' AS source_uri,
       m.champion_version,
       m.device,
       m.snapshot_id,
       m.config #>> '{split,protocol}' AS protocol,
       coalesce(m.config #>> '{data,kind}', 'ratings') AS kind,
       (m.config #>> '{gate,cutoff}')::integer AS cutoff,
       (m.config #>> '{data,scale_low}')::float AS scale_low,
       (m.config #>> '{data,scale_high}')::float AS scale_high,
       s.uri, s.sha256, s.n_train, s.n_test, s.n_users, s.n_items,
       m.model_version IS NOT DISTINCT FROM (SELECT live.model_version FROM mf.live) AS is_live
FROM mf.models AS m JOIN mf.snapshots AS s USING (snapshot_id)
WHERE m.run_key = :run_id OR m.run_key LIKE :run_id_again ESCAPE '\\'
ORDER BY m.model_version DESC LIMIT 1
"""

# The source may have been loaded by an earlier run already; then its batch is the older one.
_BATCH = """
SELECT batch_id, source_uri, rows_read, rows_rejected, total_ratings,
       finished_at >= CAST(:started AS timestamptz) AS in_this_run
FROM mf.ingest_batches WHERE state = 'loaded'
ORDER BY source_uri = :source_uri DESC, batch_id DESC LIMIT 1
"""

_FIGURES = """
SELECT subject, metric, value FROM mf.evaluations
WHERE model_version = :version AND slice = 'all'
"""

_DECISIONS = """
SELECT stage, approved, reasons, decided_by FROM mf.gate_decisions
WHERE model_version = :version ORDER BY decision_id
"""

_PUBLISHED = """
SELECT count(DISTINCT user_id) AS users, count(*) AS rows_published
FROM mf.recommendations WHERE model_version = :version
"""

# Ids that are numbers sort as numbers: by length first.
_SOME_USER = """
SELECT user_id FROM mf.recommendations WHERE model_version = :version AND source = 'model'
ORDER BY length(user_id), user_id LIMIT 1
"""

_LIST = """
SELECT r.rank, r.item_id, i.title, r.predicted_rating, r.model_version
FROM mf.recommendations AS r LEFT JOIN mf.items AS i USING (item_id)
WHERE r.user_id = :user_id ORDER BY r.rank
"""

_RATING_MODEL = """
SELECT uri, sha256 FROM mf.model_artifacts
WHERE model_version = :version AND head = 'rating' AND stage = 'evaluated'
"""

_TITLE = "SELECT title FROM mf.items WHERE item_id = :item_id"

_OF_THE_RUN = (
    "model_version",
    "champion_version",
    "n_train",
    "n_test",
    "n_users",
    "n_items",
    "device",
    "cutoff",
    "kind",
)
_OF_THE_BATCH = ("source_uri", "rows_read", "rows_rejected", "total_ratings")


@dataclass(frozen=True)
class ListedItem:
    """One recommendation of the user that the report shows; of events no rating is predicted."""

    rank: int
    item_id: str
    title: str | None
    predicted_rating: float | None


@dataclass(frozen=True)
class KnownRating:
    """A held-out rating beside its prediction by the model that was judged."""

    user_id: str
    item_id: str
    title: str | None
    rating: float
    predicted: float


@dataclass(frozen=True)
class DemoReport:
    """What the demo tells. Figures that the run did not reach are None; `seconds` is per task."""

    run_id: str
    model_version: int
    champion_version: int | None
    verdict: str
    published: bool
    reasons: tuple[str, ...]
    source_uri: str
    rows_read: int
    rows_rejected: int
    already_ingested: bool
    total_ratings: int
    split: str
    kind: str
    n_train: int
    n_test: int
    n_users: int
    n_items: int
    device: str | None
    test_rmse: float | None
    test_mae: float | None
    test_average_error: float | None
    baseline_rmse: float | None
    global_mean_rmse: float | None
    champion_rmse: float | None
    ndcg: float | None
    popularity_ndcg: float | None
    item_item_ndcg: float | None
    champion_ndcg: float | None
    cutoff: int
    users: int
    rows_published: int
    known_rating: KnownRating | None
    shown_user: str | None
    shown_list: tuple[ListedItem, ...]
    seconds: Mapping[str, float]

    @property
    def refused(self) -> bool:
        """Whether the gate said no."""
        return self.verdict == "refused"


def read_report(
    warehouse_url: str, run_id: str, started: str, seconds: Mapping[str, float]
) -> DemoReport | None:
    """Return the report of a DAG run that started at `started` (ISO 8601).

    None if the run made no model version.
    """
    import sqlalchemy as sa

    engine = sa.create_engine(warehouse_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        run = _read_run(connection, run_id)
        if run is None:
            return None

        version = {"version": run["model_version"]}
        rows = connection.execute(sa.text(_DECISIONS), version).mappings()
        decisions = [dict(row) for row in rows]
        published = connection.execute(sa.text(_PUBLISHED), version).mappings().one()
        shown_user = connection.scalar(sa.text(_SOME_USER), version)
        return DemoReport(
            run_id=run_id,
            **{name: run[name] for name in _OF_THE_RUN},
            **_ingest_figures(connection, run["source_uri"], started),
            split=run["protocol"],
            verdict=_verdict(decisions),
            published=run["is_live"],
            reasons=_reasons(decisions),
            **_headline_figures(connection, run["model_version"], run["cutoff"]),
            **published,
            known_rating=_known_rating(connection, run, shown_user),
            shown_user=shown_user,
            shown_list=_shown_list(connection, shown_user),
            seconds=dict(seconds),
        )


def write_report(report: DemoReport, path: Path) -> None:
    """Write the report as JSON, in one move."""
    text = json.dumps(asdict(report), indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    temporary.replace(path)


def _read_run(connection: "Connection", run_id: str) -> Mapping[str, Any] | None:
    """Return the run's last model version with its snapshot; None if the run made none."""
    import sqlalchemy as sa

    # A run's id may hold underscores, which LIKE takes for any character.
    escaped = run_id.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    names = {"run_id": run_id, "run_id_again": f"{escaped}#%"}
    row = connection.execute(sa.text(_RUN), names).mappings().one_or_none()
    return dict(row) if row is not None else None


def _ingest_figures(connection: "Connection", source_uri: str, started: str) -> dict[str, Any]:
    import sqlalchemy as sa

    offered = {"started": started, "source_uri": source_uri}
    batch = connection.execute(sa.text(_BATCH), offered).mappings().one()
    figures: dict[str, Any] = {name: batch[name] for name in _OF_THE_BATCH}
    figures["already_ingested"] = not batch["in_this_run"]
    return figures


def _verdict(decisions: Sequence[Mapping[str, Any]]) -> str:
    if not decisions:
        return "none"
    last = decisions[-1]
    return "approved" if last["approved"] else "refused"


def _reasons(decisions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return every rule of an approval, and of a refusal those that failed."""
    reasons = []
    for decision in decisions:
        for rule in decision["reasons"]:
            if decision["approved"] or not rule["passed"]:
                reasons.append(rule["text"])
    return tuple(reasons)


def _headline_figures(connection: "Connection", version: int, cutoff: int) -> dict[str, Any]:
    import sqlalchemy as sa

    rows = connection.execute(sa.text(_FIGURES), {"version": version})
    value = {(subject, metric): float(figure) for subject, metric, figure in rows}
    ndcg = NDCG.stored(cutoff)
    return {
        "test_rmse": value.get(("candidate", "rmse")),
        "test_mae": value.get(("candidate", "mae")),
        "test_average_error": value.get(("candidate", "average_error")),
        "baseline_rmse": value.get(("biases", "rmse")),
        "global_mean_rmse": value.get(("global_mean", "rmse")),
        "champion_rmse": value.get(("champion", "rmse")),
        "ndcg": value.get(("candidate", ndcg)),
        "popularity_ndcg": value.get(("popularity", ndcg)),
        "item_item_ndcg": value.get(("item_item", ndcg)),
        "champion_ndcg": value.get(("champion", ndcg)),
    }


def _shown_list(connection: "Connection", user_id: str | None) -> tuple[ListedItem, ...]:
    import sqlalchemy as sa

    if user_id is None:
        return ()
    rows = connection.execute(sa.text(_LIST), {"user_id": user_id}).mappings()
    return tuple(_listed_item(dict(row)) for row in rows)


def _listed_item(row: Mapping[str, Any]) -> ListedItem:
    return ListedItem(
        rank=row["rank"],
        item_id=row["item_id"],
        title=row["title"],
        predicted_rating=row["predicted_rating"],
    )


def _known_rating(
    connection: "Connection", run: Mapping[str, Any], user_id: str | None
) -> KnownRating | None:
    """Pick a held-out rating, of the shown user if there is one, and predict it."""
    import sqlalchemy as sa

    from mf_core.data.snapshot import read_snapshot
    from mf_core.models.factors import load_model

    version = {"version": run["model_version"]}
    artifact = connection.execute(sa.text(_RATING_MODEL), version).one_or_none()
    if artifact is None:
        return None

    snapshot = read_snapshot(run["uri"], run["sha256"])
    model = load_model(artifact.uri, artifact.sha256)
    row = _first_row_of(snapshot, user_id)
    known_user = str(snapshot.users.ids[snapshot.test.user[row]])
    known_item = str(snapshot.items.ids[snapshot.test.item[row]])

    # By id, since the model has row numbers of its own.
    (predicted,) = model.predict(model.users.rows([known_user]), model.items.rows([known_item]))
    clipped = min(max(predicted, run["scale_low"]), run["scale_high"])
    return KnownRating(
        user_id=known_user,
        item_id=known_item,
        title=connection.scalar(sa.text(_TITLE), {"item_id": known_item}),
        rating=float(snapshot.test.value[row]),
        predicted=float(clipped),
    )


def _first_row_of(snapshot: "Snapshot", user_id: str | None) -> int:
    """Return the first test row of the user, and without one the first of all."""
    import numpy as np

    if user_id is None:
        return 0
    user = snapshot.users.rows([user_id])[0]
    (rows,) = np.nonzero(snapshot.test.user == user)
    return int(rows[0]) if len(rows) else 0
