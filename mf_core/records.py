"""What passes from step to step: small frozen records of primitives.

They cross Airflow's XCom, so they stay flat; arrays, data frames and models never travel this way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did. Counts are rows of the source unless they say otherwise.

    Of events (`kind`), `rows_duplicate` are counted in one sum with another, and `rows_inserted`
    to `total_ratings` are pairs of a user and an item. `notes` is what people should know beside
    the counts, in words.
    """

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
    rows_not_rated: int = 0
    kind: str = "ratings"
    notes: str = ""

    def sentence(self) -> str:
        """Return what was loaded, in one line for people."""
        notes = f"; {self.notes}" if self.notes else ""
        return f"{self._loaded()}{notes}"

    def _loaded(self) -> str:
        has = f"the warehouse has {self.total_ratings:,} ratings"
        repeated, new = "duplicate", "new"
        if self.kind == "events":
            has = f"the warehouse has events of {self.total_ratings:,} pairs of user and item"
            repeated, new = "added to another", "pairs new"
        if self.already_ingested:
            return (
                f"ingest: nothing new, {self.source_uri} is loaded already (batch "
                f"{self.batch_id}); {has}"
            )
        not_rated = f"{self.rows_not_rated:,} not rated, " if self.rows_not_rated else ""
        return (
            f"ingest: {self.rows_read:,} rows of {self.source_uri} read in {self.seconds:.1f} s, "
            f"{self.rows_rejected:,} bad, {not_rated}{self.rows_duplicate:,} {repeated}, "
            f"{self.rows_inserted:,} {new}, {self.rows_updated:,} changed, "
            f"{self.rows_removed:,} removed; {has} (batch {self.batch_id})"
        )


@dataclass(frozen=True)
class QualityReport:
    """The figures that the data checks looked at.

    `volume_change` is relative to the ratings that were last trained on; None: there are none. Of
    events, a rating is the weight of all events of a user and an item.
    """

    n_ratings: int
    n_users: int
    n_items: int
    lowest_rating: float
    highest_rating: float
    mean_rating: float
    volume_change: float | None
    kind: str = "ratings"

    def sentence(self) -> str:
        """Return the figures in one line for people."""
        change = "nothing was trained on before"
        if self.volume_change is not None:
            change = f"{self.volume_change:+.1%} against the last trained data"
        what = f"{self.n_ratings:,} ratings of {self.n_users:,} users on {self.n_items:,} items"
        if self.kind == "events":
            what = (
                f"events of {self.n_users:,} users on {self.n_items:,} items, "
                f"{self.n_ratings:,} pairs with weights"
            )
        return (
            f"check: fit to train on: {what}, from {self.lowest_rating:g} to "
            f"{self.highest_rating:g}, mean {self.mean_rating:.2f}; {change}"
        )


@dataclass(frozen=True)
class HeadRef:
    """Where the model of one head lies, the sha256 of its manifest, and its iterations."""

    uri: str
    sha256: str
    iterations: int


HeadRefs = dict[str, HeadRef]
"""The heads that a model has, by name: `ranking`, and `rating` where there are ratings."""


def _restored_heads(heads: Mapping[str, HeadRef | Mapping[str, Any]]) -> HeadRefs:
    """Return heads as they were before XCom or JSON, which turn each into a mapping."""
    return {
        name: HeadRef(**head) if isinstance(head, Mapping) else head for name, head in heads.items()
    }


@dataclass(frozen=True)
class StartRef:
    """The evaluated model that a fit starts from: its version, and its heads."""

    model_version: int
    heads: HeadRefs

    def __post_init__(self) -> None:
        # A frozen record refuses a plain assignment.
        object.__setattr__(self, "heads", _restored_heads(self.heads))

    @classmethod
    def restored(cls, value: Self | Mapping[str, Any] | None) -> Self | None:
        """Return `value` as it was before XCom or JSON.

        They turn a nested record into a mapping.
        """
        if isinstance(value, Mapping):
            return cls(**value)
        return value


@dataclass(frozen=True)
class FoundSettings:
    """Settings that a search chose, where nobody has set them, and on what grounds.

    Attributes:
        settings: values by dotted name; empty where nothing is better than the shipped ones.
        source: night (the training searched) or tune (`mf tune`).
        found_at: when, in ISO 8601.
        grounds: the figures that they were chosen by, in words.
        n_ratings, n_users, n_items: the training ratings that were searched on.
        trials: what was tried, each with its figure.
        found_id: number of its row in `mf.found_settings`; None: not on record yet.
    """

    settings: dict[str, Any]
    source: Literal["night", "tune"]
    found_at: str
    grounds: str
    n_ratings: int
    n_users: int
    n_items: int
    trials: list[dict[str, Any]] = field(default_factory=list)
    found_id: int | None = None

    @classmethod
    def restored(cls, value: Self | Mapping[str, Any] | None) -> Self | None:
        """Return `value` as it was before XCom or JSON, which turn it into a mapping."""
        if isinstance(value, Mapping):
            return cls(**value)
        return value

    def sentence(self) -> str:
        """Return when they were found and on what grounds, in one line for people."""
        day = self.found_at[:10]
        by = " by `mf tune`" if self.source == "tune" else ""
        return f"settings found on {day}{by}: {self.grounds}"

    def values(self) -> str:
        """Return the settings in one line, such as `ranking_head.unobserved_scale=0.05`."""
        if not self.settings:
            return "the shipped ones"
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.settings.items())


def _shown(value: Any) -> str:
    """Return a setting's value as a person would type it; a number without its last digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class SplitRef:
    """One run (`model_version`) and the immutable train/test snapshot that it works on.

    `n_users` and `n_items` count those with a rating on either side, `unrated_users` and
    `unrated_items` those that only have attributes.
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
    start: StartRef | None = None
    """The evaluated model that the evaluated fit starts from; None: a cold start."""
    found: FoundSettings | None = None
    """The found settings that hold, or that a search begins at; None: there are none."""
    search: bool = False
    """Whether the training searches for settings before it fits."""

    def __post_init__(self) -> None:
        # A frozen record refuses a plain assignment.
        object.__setattr__(self, "start", StartRef.restored(self.start))
        object.__setattr__(self, "found", FoundSettings.restored(self.found))

    def sentence(self) -> str:
        """Return what there is to train on, or that nothing is new, in one line for people."""
        if not self.news:
            return (
                f"split: nothing is new since version {self.model_version}: neither the ratings "
                "nor the settings and the code that shape the result have changed"
            )
        begins = f", from version {self.start.model_version}" if self.start else ""
        searches = ", after a search for its settings" if self.search else ""
        return (
            f"split: version {self.model_version} is trained on {self.n_train:,} ratings and "
            f"tested on {self.n_test:,}{begins}{searches} (snapshot {self.snapshot_id})"
        )


@dataclass(frozen=True)
class ModelRef:
    """The heads of one trained model, where they lie, and how the training went.

    `stage` is evaluated or refit. `warm_started_from` is the version whose evaluated model the fit
    really started from; None: a cold start. `peak_bytes` is the most memory that it held: on a GPU
    that of the device, on a CPU that of the trainer's process; None: not known.
    """

    model_version: int
    stage: str
    heads: HeadRefs
    device: str
    fit_seconds: float
    warm_started_from: int | None = None
    peak_bytes: int | None = None
    found: FoundSettings | None = None
    """The found settings that it was fitted with; None: those of the run alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", _restored_heads(self.heads))
        object.__setattr__(self, "found", FoundSettings.restored(self.found))

    def iterations(self) -> dict[str, int]:
        """Return how many iterations each head took."""
        return {name: head.iterations for name, head in self.heads.items()}

    def sentence(self) -> str:
        """Return what was fitted, in one line for people."""
        step = "refit" if self.stage == "refit" else "train"
        fitted = " and ".join(f"{name} ({n} iterations)" for name, n in self.iterations().items())
        return (
            f"{step}: version {self.model_version} is fitted in {self.fit_seconds:.0f} s on "
            f"{self.device}: {fitted}"
        )

    def as_start(self) -> StartRef:
        """Return the model as one that another fit starts from."""
        return StartRef(model_version=self.model_version, heads=self.heads)


@dataclass(frozen=True)
class Progress:
    """How far the fit of one head is.

    `iteration` counts from 1 to at most `iterations`. `unit` is what the solver calls an iteration
    (sweep, epoch, step). `ratings_per_second`, `eta_seconds` and `iteration_seconds` (the mean) are
    of this process's iterations.
    """

    head: str
    unit: str
    iteration: int
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    ratings_per_second: float
    eta_seconds: float
    iteration_seconds: float

    def sentence(self) -> str:
        """Return the figures in one line for people."""
        validation = ""
        if self.validation_rmse is not None:
            validation = f", validation RMSE {self.validation_rmse:.4f}"
        return (
            f"{self.head}: {self.unit} {self.iteration}/{self.iterations}, "
            f"train RMSE {self.train_rmse:.4f}{validation}, "
            f"{self.ratings_per_second:,.0f} ratings/s, ETA {self.eta_seconds:.0f} s"
        )


@dataclass(frozen=True)
class EvalReport:
    """The candidate's headline figures on the test rows; all of them stand in `mf.evaluations`.

    Those of ratings are None where the model predicts none, and `n_test` is 0 there.
    """

    model_version: int
    champion_version: int | None
    n_test: int
    rmse: float | None
    mae: float | None
    average_error: float | None
    baseline_rmse: float | None
    ndcg: float
    popularity_ndcg: float
    champion_rmse: float | None
    champion_ndcg: float | None
    coverage: float | None = None
    """Share of the items that the lists show to anybody; None: not measured."""
    cutoff: int | None = None
    """Length of the lists that `ndcg` and `coverage` look at; None: of an older release."""

    def ratings_in_words(self) -> str:
        """Return how well ratings are predicted; that they are not where there are none."""
        if self.rmse is None:
            return "no ratings to predict"
        return f"test RMSE {self.rmse:.4f}"

    def sentence(self) -> str:
        """Return the figures in one line for people."""
        ratings = self.ratings_in_words()
        if self.baseline_rmse is not None:
            ratings += f" (biases only {self.baseline_rmse:.4f})"
        return (
            f"evaluate: version {self.model_version} has {ratings}, "
            f"NDCG@{self.cutoff} {self.ndcg:.4f} (popularity {self.popularity_ndcg:.4f}), "
            f"champion {self.champion_version}"
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's decision.

    `reasons` are the rules in words, one on each line; `overridden_by` is the person who overrode a
    refusal.
    """

    model_version: int
    champion_version: int | None
    approved: bool
    reasons: str
    overridden_by: str | None

    def sentence(self) -> str:
        """Return the decision in one line for people."""
        if self.overridden_by:
            return f"gate: version {self.model_version} passes, {self.overridden_by} overrode it"
        rules = self.reasons.splitlines()
        n_warnings = sum(line.startswith("!!") for line in rules)
        warned = f", {n_warnings} with a warning" if n_warnings else ""
        return (
            f"gate: version {self.model_version} is approved, all {len(rules)} rules hold{warned}"
        )


@dataclass(frozen=True)
class PublishReport:
    """What went live.

    `previous_version` is None for the first one; `rows` counts the reserve too; `retired_versions`
    is comma-separated.
    """

    model_version: int
    previous_version: int | None
    users: int
    rows: int
    retired_versions: str
    rmse: float | None
    ndcg: float

    def sentence(self) -> str:
        """Return what went live, in one line for people."""
        before = ""
        if self.previous_version is not None:
            before = f" instead of version {self.previous_version}"
        retired = f"; retired: {self.retired_versions}" if self.retired_versions else ""
        figure = f"NDCG {self.ndcg:.4f}" if self.rmse is None else f"test RMSE {self.rmse:.4f}"
        return (
            f"publish: version {self.model_version} is live{before}: lists of {self.users:,} "
            f"users, {self.rows:,} rows, {figure}{retired}"
        )


@dataclass(frozen=True)
class RollbackReport:
    """A rollback: the version that is live now, the one that was, and who went back.

    `published_at` says when the version that is live now was first published, in ISO 8601.
    """

    model_version: int
    previous_version: int | None
    published_at: str
    rolled_back_by: str

    def sentence(self) -> str:
        """Return what happened, such as `from 7 to 4, published on 2026-05-01 02:13 UTC`."""
        day, _, clock = self.published_at.partition("T")
        minute = clock[:5]
        return (
            f"from {self.previous_version} to {self.model_version}, published on {day} {minute} UTC"
        )
