"""What passes from step to step: small frozen records of primitives.

They cross Airflow's XCom, so they stay flat; arrays, data frames and models never travel this way.
"""

from dataclasses import dataclass

HEAD_FIELDS = ("rating_uri", "rating_sha256", "ranking_uri", "ranking_sha256")
"""Where both heads of a `ModelRef` lie; in a `SplitRef`, after `start_`, those of the model to start from."""


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did. Counts are rows of the source unless they say otherwise."""

    batch_id: int
    source_uri: str
    content_sha256: str
    already_ingested: bool
    rows_read: int
    rows_rejected: int
    rows_duplicate: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    rows_removed: int
    total_ratings: int
    seconds: float


@dataclass(frozen=True)
class QualityReport:
    """The figures that the data checks looked at. `volume_change` is relative to the last trained data; None: no such data."""

    n_ratings: int
    n_users: int
    n_items: int
    lowest_rating: float
    highest_rating: float
    mean_rating: float
    volume_change: float | None


@dataclass(frozen=True)
class SplitRef:
    """One run (`model_version`) and the immutable train/test snapshot that it works on.

    `n_users` and `n_items` have a rating on either side; `unrated_users` and `unrated_items` are there for attributes only.
    """

    model_version: int
    snapshot_id: str
    split_id: str
    uri: str
    sha256: str
    n_train: int
    n_test: int
    n_users: int
    n_items: int
    cold_users: int
    cold_items: int
    cold_test_ratings: int
    news: bool
    """False if the live version was made from this very snapshot with these very settings."""
    unrated_users: int = 0
    unrated_items: int = 0
    start_version: int | None = None
    """Version whose evaluated model the evaluated fit starts from, and where its heads lie; None: a cold start."""
    start_rating_uri: str | None = None
    start_rating_sha256: str | None = None
    start_ranking_uri: str | None = None
    start_ranking_sha256: str | None = None


@dataclass(frozen=True)
class ModelRef:
    """Both heads of one trained model, where they lie, and how the training went. `stage` is evaluated or refit.

    `warm_started_from` is the version whose evaluated model the fit really started from; None: a cold start.
    """

    model_version: int
    stage: str
    rating_uri: str
    rating_sha256: str
    rating_iterations: int
    ranking_uri: str
    ranking_sha256: str
    ranking_iterations: int
    device: str
    fit_seconds: float
    warm_started_from: int | None = None


@dataclass(frozen=True)
class EvalReport:
    """The candidate's headline figures on the test rows; all of them stand in `mf.evaluations`."""

    model_version: int
    champion_version: int | None
    n_test: int
    rmse: float
    mae: float
    average_error: float
    baseline_rmse: float
    ndcg: float
    popularity_ndcg: float
    champion_rmse: float | None
    champion_ndcg: float | None


@dataclass(frozen=True)
class Verdict:
    """The gate's decision. `reasons` are the rules in words, one a line; `overridden_by` names who overruled a refusal."""

    model_version: int
    champion_version: int | None
    approved: bool
    reasons: str
    overridden_by: str | None


@dataclass(frozen=True)
class PublishReport:
    """What went live. `previous_version` is None for the first one; `rows` counts the reserve too; `retired_versions` is
    comma-separated."""

    model_version: int
    previous_version: int | None
    users: int
    rows: int
    retired_versions: str
    rmse: float
    ndcg: float


@dataclass(frozen=True)
class RollbackReport:
    """A rollback: the version that is live now, and the one that was."""

    model_version: int
    previous_version: int | None
