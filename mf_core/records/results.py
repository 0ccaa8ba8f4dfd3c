"""Records of what is judged, published and taken back."""

from dataclasses import dataclass


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
