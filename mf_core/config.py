"""All settings, defined once: bounds, defaults, descriptions, and what each of them shapes.

The trigger form's Params (`dags/`), the CLI's `--set section.name=value`, the file named by
`MF_CONFIG` and the table in `docs/config.md` are all generated from these models. Names are dotted
paths such as `rating_head.als.n_factors`.
"""

import hashlib
import json
import os
import tomllib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mf_core.errors import ConfigError
from mf_core.redaction import redacted, without_secrets

Head = Literal["rating", "ranking"]
Shapes = Literal["model", "lists", "verdict", "nothing"]
"""What a setting shapes: the fitted factors, the lists that readers see, or the judgement on both.

`nothing` is for what changes only how a run gets there: where ratings come from, on which device,
in how many pieces.
"""


_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class _Shapes:
    """The mark that `setting` leaves on a field."""

    what: Shapes


def setting(default: Any, *, shapes: Shapes, description: str, **bounds: Any) -> Any:
    """Return a field of a settings class: pydantic's `Field`, and what the setting shapes."""
    field: FieldInfo = Field(default, description=description, **bounds)
    # Metadata stays out of the JSON schema, which the trigger form shows to people.
    field.metadata.append(_Shapes(shapes))
    return field


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SOURCE_URIS = ("uri", "test_uri", "items_uri", "users_uri")
"""The settings of the section `source` that name a place."""

REACHING = (*SOURCE_URIS, "query", "database_url_env", "connection")
"""Those that decide what a run reaches outside the project; the others say how it is read."""

DEPLOYMENT_SECTIONS = ("sources", "trigger", "limits")
"""Sections of the settings file that are no settings of a run: see `mf_core/deployment.py`."""


class SourceConfig(_Section):
    """Where the ratings come from."""

    name: str = setting(
        "",
        shapes="nothing",
        description="Name of a source that the settings file describes in `[sources.NAME]`; empty: "
        "the settings below.",
        max_length=200,
    )
    uri: str = setting(
        "ml-100k",
        shapes="nothing",
        description="Path or URI of the ratings (any fsspec URI; a file, a MovieLens folder or "
        "zip), `ml-100k` for the demo's download, or `sql` for a query on another database.",
        min_length=1,
        max_length=2000,
    )
    layout: Literal["auto", "movielens", "csv", "parquet"] = setting(
        "auto",
        shapes="nothing",
        description="How to read the file; `auto` decides by its name and first line. A query's "
        "result needs none.",
    )
    delimiter: str = setting(
        "",
        shapes="nothing",
        description="Field separator of a text file; empty: decided from the first line.",
        max_length=4,
    )
    user_column: str = setting(
        "user_id", shapes="nothing", description="Column that holds the user id.", min_length=1
    )
    item_column: str = setting(
        "item_id", shapes="nothing", description="Column that holds the item id.", min_length=1
    )
    rating_column: str = setting(
        "rating", shapes="nothing", description="Column that holds the rating.", min_length=1
    )
    time_column: str = setting(
        "timestamp",
        shapes="nothing",
        description="Column that holds the time (epoch seconds or ISO 8601); may be absent. "
        "Empty: none.",
    )
    side_column: str = setting(
        "",
        shapes="nothing",
        description="Column that says `train` or `test`; only the split protocol `given` goes by "
        "it. Empty: none.",
    )
    test_uri: str = setting(
        "",
        shapes="nothing",
        description="Second file whose rows are the test side; only the split protocol `given` "
        "goes by it. Empty: none.",
    )
    items_uri: str = setting(
        "",
        shapes="nothing",
        description="File of item ids, titles and attributes; empty: beside the ratings, if there.",
    )
    users_uri: str = setting(
        "",
        shapes="nothing",
        description="File of user ids and attributes; empty: beside the ratings, if there.",
    )
    sha256: str = setting(
        "",
        shapes="nothing",
        description="Expected sha256 of the ratings file; empty: not checked.",
        pattern="^([0-9a-f]{64})?$",
    )
    query: str = setting(
        "",
        shapes="nothing",
        description="With uri `sql`: the SELECT whose columns are named as above. Empty with any "
        "other uri.",
    )
    connection: str = setting(
        "",
        shapes="nothing",
        description="With uri `sql`, in a DAG: the Airflow connection (Postgres) of the database; "
        "empty: `database_url_env` says it.",
    )
    database_url_env: str = setting(
        "MF_SOURCE_DATABASE_URL",
        shapes="nothing",
        description="With uri `sql`: the environment variable that holds the SQLAlchemy URL. It "
        "can't be set by a trigger.",
        min_length=1,
    )
    chunk_rows: int = setting(
        500_000,
        shapes="nothing",
        description="Rows read and loaded at a time, about; a text file is read in blocks of 64 "
        "KiB to 256 MiB, whatever this says.",
        ge=1_000,
        le=20_000_000,
    )

    @model_validator(mode="after")
    def _query_goes_with_sql(self) -> Self:
        wants_query = self.uri == "sql"
        has_query = bool(self.query.strip())
        if wants_query and not has_query:
            raise ValueError(
                "source.query is empty, but source.uri is sql; set the SELECT to load, or name "
                "another source"
            )
        if has_query and not wants_query:
            shown = redacted(self.uri)
            raise ValueError(
                f"source.query is set, but source.uri is {shown!r:.80}, so it would not be run; "
                "set source.uri to sql, or empty source.query"
            )
        return self


class DataConfig(_Section):
    """What a rating is, and which data are good enough to train on."""

    scale_low: float = setting(1.0, shapes="model", description="Lowest rating of the scale.")
    scale_high: float = setting(5.0, shapes="model", description="Highest rating of the scale.")
    relevant_from: float = setting(
        4.0,
        shapes="model",
        description="Ratings from here on count as relevant (ranking head, list metrics).",
    )
    ingest_mode: Literal["merge", "replace"] = setting(
        "merge",
        shapes="nothing",
        description="`replace` also removes the ratings, items and users that the source no "
        "longer has.",
    )
    max_rejected_share: float = setting(
        0.01,
        shapes="nothing",
        description="More bad rows than this share refuse the whole batch.",
        ge=0,
        le=1,
    )
    max_removed_share: float = setting(
        0.5,
        shapes="nothing",
        description="`replace` refuses a source that would remove more than this share of the "
        "ratings.",
        ge=0,
        le=1,
    )
    min_ratings: int = setting(
        1_000, shapes="verdict", description="Fewest ratings to train on.", ge=1
    )
    min_users: int = setting(20, shapes="verdict", description="Fewest users to train on.", ge=1)
    min_items: int = setting(20, shapes="verdict", description="Fewest items to train on.", ge=1)
    max_volume_drop: float = setting(
        0.2,
        shapes="verdict",
        description="Largest drop of the number of ratings against the last trained data, as a "
        "share.",
        ge=0,
        le=1,
    )
    max_volume_growth: float = setting(
        5.0,
        shapes="verdict",
        description="Largest growth of the number of ratings against the last trained data, as a "
        "share.",
        ge=0,
    )

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> Self:
        if not self.scale_low < self.scale_high:
            raise ValueError(
                f"data.scale_low {self.scale_low} must be below data.scale_high {self.scale_high}"
            )
        if not self.scale_low <= self.relevant_from <= self.scale_high:
            scale = f"{self.scale_low}..{self.scale_high}"
            raise ValueError(
                f"data.relevant_from {self.relevant_from} must lie in {scale}, from data.scale_low "
                "to data.scale_high"
            )
        return self


class SplitConfig(_Section):
    """Which ratings are held out."""

    protocol: Literal["hash", "temporal", "leave_last", "given"] = setting(
        "hash",
        shapes="model",
        description="hash of (user, item, seed); temporal: a global cut; leave_last: each user's "
        "last; given: by the source.",
    )
    test_fraction: float = setting(
        0.3,
        shapes="model",
        description="Share of the ratings on the test side (hash, temporal).",
        gt=0,
        lt=1,
    )
    seed: int = setting(
        0, shapes="model", description="Seed of the hash split.", ge=0, le=2**31 - 1
    )


@dataclass(frozen=True)
class SearchRange:
    """Where `mf tune` looks for one setting of a solver, and at its present value.

    The type, and narrower bounds, are those of the setting itself.

    Attributes:
        name: the setting's name within its section.
        low, high: the ends of the range, both included.
        log: draw on a logarithmic scale.
    """

    name: str
    low: float
    high: float
    log: bool = True


class SolverConfig(_Section):
    """A solver's settings, and what the rest of the code has to know of that solver.

    What holds of most solvers is said here; a solver's own class overrides what is different.

    Attributes:
        takes_start: a fit may go on from an earlier model's factors.
        start_must_share: the settings (of this section) that such a model must have in common.
        keeps_last: the model is a running mean, so its last iteration counts, not its best.
        least_gain: the share of the validation error that an iteration must gain to be better.
        search: what `mf tune` searches. What only trades time for accuracy does not belong there.
        tuning_overrides: values, by name within the section, that every trial of `mf tune` gets.
    """

    takes_start: ClassVar[bool] = False
    start_must_share: ClassVar[tuple[str, ...]] = ("n_factors",)
    keeps_last: ClassVar[bool] = False
    least_gain: ClassVar[float] = 0.0
    search: ClassVar[tuple[SearchRange, ...]] = ()
    tuning_overrides: ClassVar[Mapping[str, Any]] = {}

    n_factors: int = setting(32, shapes="model", description="Number of factors.", ge=1, le=512)

    @abstractmethod
    def iteration_limit(self) -> int:
        """Return how many iterations a fit runs at most."""

    def burn_in_iterations(self, limit: int) -> int:
        """Return how many of `limit` iterations pass before there is a model to measure."""
        return 0

    def patience_or(self, default: int) -> int:
        """Return after how many iterations without a gain a fit stops; `default` is the head's."""
        return default

    def validation_share(self) -> float:
        """Return which part of the head's `validation_fraction` this solver holds out."""
        return 1.0

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return False

    def search_ranges(self) -> tuple[SearchRange, ...]:
        """Return what `mf tune` searches.

        Raises:
            ConfigError: with these settings there is nothing to tune.
        """
        return self.search


class AlsConfig(SolverConfig):
    """Alternating least squares on explicit ratings, with biases."""

    takes_start = True
    search = (
        SearchRange("n_factors", 4, 128),
        SearchRange("regularization", 0.01, 1.0),
        SearchRange("bias_regularization", 0.1, 30.0),
    )

    n_factors: int = setting(32, shapes="model", description="Number of factors.", ge=1, le=512)
    iterations: int = setting(20, shapes="model", description="Sweeps at most.", ge=1, le=1_000)
    regularization: float = setting(
        0.09,
        shapes="model",
        description="Ridge on the factors, times 40 plus the number of ratings of the row.",
        gt=0,
        le=1e6,
    )
    bias_regularization: float = setting(
        2.0, shapes="model", description="Ridge on the biases, in ratings.", gt=0, le=1e6
    )
    conjugate_steps: int = setting(
        2,
        shapes="model",
        description="Steps of conjugate gradients per row and sweep.",
        ge=1,
        le=1_000,
    )

    def iteration_limit(self) -> int:
        """Return how many sweeps a fit runs at most."""
        return self.iterations


class BayesConfig(SolverConfig):
    """Bayesian matrix factorization by Gibbs sampling, with implicit features on both sides."""

    takes_start = True
    keeps_last = True
    # The running mean has settled where it gains less than this share of its error.
    least_gain = 1e-4
    search = (SearchRange("n_factors", 4, 64), SearchRange("pattern_rank", 16, 512))
    # Kept samples are for standard deviations, which no trial is asked for.
    tuning_overrides: ClassVar[Mapping[str, Any]] = {"kept_samples": 0}

    n_factors: int = setting(
        26, shapes="model", description="Number of factors of a sample.", ge=1, le=512
    )
    sweeps: int = setting(
        120, shapes="model", description="Sweeps at most, the burn-in included.", ge=2, le=100_000
    )
    burn_in: int = setting(
        10,
        shapes="model",
        description="Sweeps before the mean of the samples begins, at most half of `sweeps`. A "
        "fit of fewer sweeps, as a refit may be, takes at most half of those.",
        ge=1,
        le=100_000,
    )
    patience: int = setting(
        50,
        shapes="model",
        description="Sweeps in which the mean must gain a ten-thousandth of its validation error "
        "to go on.",
        ge=1,
        le=100_000,
    )
    pattern_rank: int = setting(
        36,
        shapes="model",
        description="Implicit features per side: leading singular vectors of who rated what, of "
        "which there are as many as users or items at most; 0: none.",
        ge=0,
        le=4_096,
    )
    kept_samples: int = setting(
        16,
        shapes="model",
        description="Samples kept at most, of those after the burn-in, for the standard deviation "
        "of predictions; 0: none is published.",
        ge=0,
        le=1_000,
    )
    output_factors: int = setting(
        128,
        shapes="model",
        description="Number of factors that hold the mean of all samples; as many as users or "
        "items hold it exactly.",
        ge=1,
        le=2_048,
    )
    side_information: bool = setting(
        False,
        shapes="model",
        description="Learn from the attributes in `mf.users` and `mf.items` too; those who have "
        "some and no rating are predicted from them, and new users among them get rows.",
    )

    @model_validator(mode="after")
    def _burn_in_leaves_half(self) -> Self:
        if 2 * self.burn_in > self.sweeps:
            raise ValueError(
                f"rating_head.bayes.burn_in {self.burn_in} is more than half of "
                f"rating_head.bayes.sweeps {self.sweeps}; lower the one or raise the other"
            )
        return self

    def iteration_limit(self) -> int:
        """Return how many sweeps a fit runs at most, the burn-in included."""
        return self.sweeps

    def burn_in_iterations(self, limit: int) -> int:
        """Return how many of `limit` sweeps pass before the mean of the samples begins.

        That is `burn_in` for as many sweeps as a person has set. A refit runs as many as the
        evaluated fit ended with, which may be few: nobody has set those, so at least half of them
        count.
        """
        return min(self.burn_in, limit // 2)

    def patience_or(self, default: int) -> int:
        """Return the sampler's own patience: a mean settles slowly."""
        return self.patience

    def validation_share(self) -> float:
        """Return a fifth: the validation part decides nothing but when to stop."""
        return 0.2

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return self.side_information


class GradientConfig(SolverConfig):
    """Gradient descent: the 2016 post's model, or a biased one with mini-batch Adam."""

    seed_steps: ClassVar[int] = 500
    # What preset `seed` has constants of its own for.
    fixed_by_seed: ClassVar[tuple[str, ...]] = (
        "n_factors",
        "epochs",
        "learning_rate",
        "regularization",
        "batch_size",
    )
    search = (
        SearchRange("n_factors", 4, 128),
        SearchRange("learning_rate", 1e-4, 0.1),
        SearchRange("regularization", 1e-3, 2.0),
        SearchRange("batch_size", 256, 16_384),
    )

    preset: Literal["biased", "seed"] = setting(
        "biased",
        shapes="model",
        description="biased: biases, L2, mini-batch Adam, early stopping; seed: the 2016 post's "
        "model, loss and constants exactly, without early stopping; the settings below stay at "
        "their defaults then.",
    )
    n_factors: int = setting(
        32,
        shapes="model",
        description="Number of factors (10 in the post).",
        ge=1,
        le=512,
    )
    epochs: int = setting(
        100,
        shapes="model",
        description="Epochs at most (500 full-batch steps in the post).",
        ge=1,
        le=100_000,
    )
    learning_rate: float = setting(
        0.003,
        shapes="model",
        description="Adam's step size (.001 in the post).",
        gt=0,
        le=10,
    )
    regularization: float = setting(
        0.15,
        shapes="model",
        description="L2 on factors and biases (L1 .001 in the post).",
        ge=0,
        le=1e6,
    )
    batch_size: int = setting(
        2_048, shapes="model", description="Ratings per mini-batch.", ge=1, le=10_000_000
    )

    @model_validator(mode="after")
    def _seed_has_its_own_constants(self) -> Self:
        if self.preset != "seed":
            return self
        fields = type(self).model_fields
        set_anyway = [n for n in self.fixed_by_seed if getattr(self, n) != fields[n].default]
        if set_anyway:
            names = ", ".join(f"rating_head.gradient.{name}" for name in set_anyway)
            raise ValueError(
                f"rating_head.gradient.preset is seed, the 2016 post's model with its own "
                f"constants, so it can't take {names}; leave that at its default, or set the "
                "preset to biased"
            )
        return self

    def iteration_limit(self) -> int:
        """Return how many epochs a fit runs at most; preset `seed`: the post's number of steps."""
        return self.seed_steps if self.preset == "seed" else self.epochs

    def validation_share(self) -> float:
        """Return 1, or 0 for preset `seed`: the post runs all its steps on all rows."""
        return 0.0 if self.preset == "seed" else 1.0

    def search_ranges(self) -> tuple[SearchRange, ...]:
        """Return what `mf tune` searches. Raises ConfigError: preset `seed` has nothing to tune."""
        if self.preset == "seed":
            raise ConfigError(
                "preset `seed` is the 2016 post's model, constants included; set "
                "rating_head.gradient.preset=biased."
            )
        return self.search


class RatingHeadConfig(_Section):
    """The model that predicts ratings; its test error is what the gate is about."""

    solver: Literal["bayes", "als", "gradient"] = setting(
        "bayes", shapes="model", description="Which solver fits the rating head."
    )
    validation_fraction: float = setting(
        0.05,
        shapes="model",
        description="Share of the training rows kept for early stopping, a fifth of it for bayes, "
        "none for gradient's preset `seed`; 0: run all iterations.",
        ge=0,
        lt=0.5,
    )
    patience: int = setting(
        5,
        shapes="model",
        description="Iterations without a better validation error before stopping; als and "
        "gradient's preset `biased` go by it, bayes has its own.",
        ge=1,
        le=1_000,
    )
    bayes: BayesConfig = BayesConfig()
    als: AlsConfig = AlsConfig()
    gradient: GradientConfig = GradientConfig()

    @model_validator(mode="after")
    def _attributes_need_bayes(self) -> Self:
        if self.bayes.side_information and self.solver != "bayes":
            raise ValueError(
                f"rating_head.bayes.side_information is on, but rating_head.solver is "
                f"{self.solver}, which learns from no attributes; set the solver to bayes, or turn "
                "side_information off"
            )
        return self

    def chosen(self) -> SolverConfig:
        """Return the settings of the chosen solver, which stand under its name."""
        settings: SolverConfig = getattr(self, self.solver)
        return settings

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return self.chosen().uses_attributes()


class RankingHeadConfig(SolverConfig):
    """Implicit ALS on who rated what, and how much they liked it; orders the list."""

    takes_start = True
    search = (
        SearchRange("n_factors", 8, 256),
        SearchRange("unobserved_weight", 1e-3, 1.0),
        SearchRange("regularization", 1e-4, 1.0),
        SearchRange("regularization_exponent", 0.0, 2.0, log=False),
        SearchRange("lowest_target", 0.0, 1.0, log=False),
    )

    learn_from: Literal["all", "relevant"] = setting(
        "all",
        shapes="model",
        description="Which ratings of the users with a relevant rating are observations: `all`, "
        "or only the `relevant` ones.",
    )
    lowest_target: float = setting(
        0.35,
        shapes="model",
        description="What the score of an observation aims at for a rating of data.scale_low; 1 "
        "for data.relevant_from, and on the line through both for any other rating. 1: the same "
        "for all.",
        ge=0,
        le=1,
    )
    n_factors: int = setting(128, shapes="model", description="Number of factors.", ge=1, le=512)
    iterations: int = setting(12, shapes="model", description="Sweeps.", ge=1, le=1_000)
    conjugate_steps: int = setting(
        3,
        shapes="model",
        description="Steps of conjugate gradients per row and sweep.",
        ge=1,
        le=1_000,
    )
    unobserved_weight: float = setting(
        0.2, shapes="model", description="Weight alpha0 of the pairs nobody rated.", gt=0, le=1e3
    )
    regularization: float = setting(
        0.016,
        shapes="model",
        description="Ridge lambda, scaled by each row's frequency.",
        gt=0,
        le=1e6,
    )
    regularization_exponent: float = setting(
        1.0,
        shapes="model",
        description="Exponent nu of the frequency scaling (Rendle et al. 2021).",
        ge=0,
        le=2,
    )

    def iteration_limit(self) -> int:
        """Return how many sweeps a fit runs."""
        return self.iterations


class TrainConfig(_Section):
    """How the trainer runs."""

    device: Literal["auto", "gpu", "cpu"] = setting(
        "auto",
        shapes="nothing",
        description="`gpu` refuses to train without one, which only the worker that trains can "
        "tell; `auto` takes one where there is one.",
    )
    seed: int = setting(
        0, shapes="model", description="Seed of everything random in training.", ge=0, le=2**31 - 1
    )
    checkpoint_seconds: float = setting(
        30.0, shapes="nothing", description="Seconds between checkpoints.", ge=0, le=86_400
    )
    warm_start: bool = setting(
        False,
        shapes="model",
        description="Start from the live version's evaluated factors. Needs split protocol hash, "
        "under which that leaks nothing, and solver bayes or als. A night that can't, since "
        "nothing is live or the settings have changed, starts cold and says why.",
    )
    full_restart_every: int = setting(
        7,
        shapes="model",
        description="With warm_start: every so many versions of a lineage one starts cold; 1: all "
        "of them.",
        ge=1,
        le=1_000,
    )


class GateConfig(_Section):
    """When a candidate may be published. Fail-closed: a missing figure refuses."""

    max_rmse: float | None = setting(
        None,
        shapes="verdict",
        description="Ceiling of the test RMSE, in rating units; empty: a quarter of the rating "
        "scale's range.",
        gt=0,
    )
    require_better_than_biases: bool = setting(
        True, shapes="verdict", description="The rating head must beat the biases-only baseline."
    )
    require_popularity: bool = setting(
        True,
        shapes="verdict",
        description="NDCG of the head that orders the list must not be below popularity's.",
    )
    max_rmse_loss: float = setting(
        0.01,
        shapes="verdict",
        description="Non-inferiority margin in RMSE against the champion and the recent best.",
        ge=0,
    )
    max_ndcg_loss: float = setting(
        0.02,
        shapes="verdict",
        description="Non-inferiority margin in NDCG against the champion and the recent best.",
        ge=0,
    )
    recent_days: int = setting(
        30,
        shapes="verdict",
        description="How far back the recent best is looked for, in days.",
        ge=1,
        le=3650,
    )
    min_test_ratings: int = setting(
        100, shapes="verdict", description="Fewest test ratings to judge on.", ge=1
    )
    min_test_users: int = setting(
        20, shapes="verdict", description="Fewest users with test ratings to judge on.", ge=2
    )
    bootstrap_samples: int = setting(
        1_000, shapes="verdict", description="Bootstrap resamples of the users.", ge=100, le=100_000
    )
    cutoff: int = setting(
        10,
        shapes="verdict",
        description="N of NDCG@N, Recall@N, MAP@N and hit rate; no more than the rows that are "
        "kept per user, recommend.top_n + recommend.reserve.",
        ge=1,
        le=1_000,
    )
    max_refit_error_ratio: float = setting(
        1.05,
        shapes="verdict",
        description="The refit's RMSE on all ratings may be at most this multiple of the "
        "evaluated model's (with publish.refit).",
        ge=1,
    )
    min_refit_overlap: float = setting(
        0.2,
        shapes="verdict",
        description="The refit's lists must share at least this part with the evaluated model's "
        "(with publish.refit).",
        ge=0,
        le=1,
    )


class RecommendConfig(_Section):
    """The lists."""

    top_n: int = setting(
        10, shapes="lists", description="Recommendations per user that readers see.", ge=1, le=1_000
    )
    reserve: int = setting(
        10,
        shapes="lists",
        description="Further rows kept per user, so that hiding items leaves lists full.",
        ge=0,
        le=1_000,
    )
    rank_by: Literal["ranking", "rating"] = setting(
        "ranking",
        shapes="lists",
        description="Which head orders the list; the ranking head finds the similar items either "
        "way.",
    )
    shards: int = setting(
        2,
        shapes="nothing",
        description="Tasks that write the recommendations side by side; no more than one a user "
        "are started.",
        ge=1,
        le=256,
    )
    tile_mib: int = setting(
        64,
        shapes="nothing",
        description="Memory bound of one tile of scores, in MiB; a tile holds one user's scores "
        "at least.",
        ge=1,
        le=65_536,
    )
    similar_items: int = setting(
        10, shapes="lists", description="Similar items kept per item.", ge=0, le=1_000
    )


class PublishConfig(_Section):
    """How versions go live."""

    refit: bool = setting(
        True, shapes="lists", description="Refit on all ratings after the gate and publish that."
    )
    keep_versions: int = setting(
        5,
        shapes="nothing",
        description="Published versions kept for rollback, the live one included.",
        ge=1,
        le=100,
    )
    keep_weeks: int = setting(
        4,
        shapes="nothing",
        description="Past weeks (Monday to Sunday, UTC) of which the version that was live at the "
        "end is kept as well.",
        ge=0,
        le=52,
    )
    min_coverage: float = setting(
        0.0,
        shapes="verdict",
        description="Smallest share of the items that the lists must cover.",
        ge=0,
        le=1,
    )


class RunConfig(_Section):
    """The run as a whole."""

    dry_run: bool = setting(
        False, shapes="nothing", description="Stop after the verdict; publish nothing."
    )
    force: bool = setting(
        False,
        shapes="nothing",
        description="Train even if nothing is new since the live version: neither the ratings nor "
        "the settings and the code that shape the result.",
    )


class Config(_Section):
    """Everything a run is set up with."""

    run: RunConfig = RunConfig()
    source: SourceConfig = SourceConfig()
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    rating_head: RatingHeadConfig = RatingHeadConfig()
    ranking_head: RankingHeadConfig = RankingHeadConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    recommend: RecommendConfig = RecommendConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _warm_start_can_be_honoured(self) -> Self:
        if not self.train.warm_start:
            return self
        if self.split.protocol != "hash":
            raise ValueError(
                f"train.warm_start is on, but split.protocol is {self.split.protocol}, under which "
                "a rating may change sides, so a model to start from may have seen tonight's test "
                "rows; set split.protocol to hash, or turn train.warm_start off"
            )
        if not self.rating_head.chosen().takes_start:
            raise ValueError(
                f"train.warm_start is on, but rating_head.solver is {self.rating_head.solver}, "
                "which takes no start; set it to bayes or als, or turn train.warm_start off"
            )
        return self

    @model_validator(mode="after")
    def _cutoff_lies_within_the_lists(self) -> Self:
        kept = self.recommend.top_n + self.recommend.reserve
        if self.gate.cutoff > kept:
            raise ValueError(
                f"gate.cutoff {self.gate.cutoff} is more than the {kept} rows that are kept per "
                "user (recommend.top_n + recommend.reserve); lower it, or keep longer lists"
            )
        return self

    def solver_name(self, head: Head) -> str:
        """Return the name of the solver that fits `head`."""
        return self.rating_head.solver if head == "rating" else "implicit"

    def solver_settings(self, head: Head) -> SolverConfig:
        """Return the settings of the solver that fits `head`."""
        return self.rating_head.chosen() if head == "rating" else self.ranking_head

    def solver_section(self, head: Head) -> str:
        """Return where these settings stand, such as `rating_head.als`."""
        return f"rating_head.{self.rating_head.solver}" if head == "rating" else "ranking_head"

    def start_must_share(self, head: Head) -> tuple[str, ...]:
        """Return the settings, by dotted name, that a model to start from must have in common."""
        section = self.solver_section(head)
        return tuple(f"{section}.{name}" for name in self.solver_settings(head).start_must_share)

    def shaping(self, *shapes: Shapes) -> dict[str, Any]:
        """Return the settings that shape any of the things named, by dotted name.

        Those of a rating solver that is not chosen shape nothing.
        """
        idle = self._idle_sections()
        return {
            found.name: found.default
            for found in settings(self)
            if found.shapes in shapes and found.section not in idle
        }

    def _idle_sections(self) -> set[str]:
        """Return the sections of the rating solvers that are not chosen."""
        sections = {
            f"rating_head.{name}"
            for name, value in self.rating_head
            if isinstance(value, SolverConfig)
        }
        return sections - {self.solver_section("rating")}

    def fingerprint(self, *shapes: Shapes) -> str:
        """sha256 (hex, 64 characters) over the settings that shape any of the things named."""
        text = json.dumps(self.shaping(*shapes), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def for_record(self) -> dict[str, Any]:
        """Return all settings as JSON has them, without the secrets that a URI may hold."""
        record = self.model_dump(mode="json")
        for name in SOURCE_URIS:
            record["source"][name] = redacted(record["source"][name])
        return record

    def training_fingerprint(self) -> str:
        """sha256 (hex) over the settings that change what a run makes of the same ratings."""
        return self.fingerprint("model", "lists")


@dataclass(frozen=True)
class Setting:
    """One leaf of the configuration.

    Attributes:
        name: dotted path.
        section: the path without its last part.
        default: the value, from the configuration that was asked.
        schema: JSON schema, without default and description.
        description: what it means, for people.
        shapes: what it shapes.
    """

    name: str
    section: str
    default: Any
    schema: dict[str, Any]
    description: str
    shapes: Shapes

    def bounds(self) -> str:
        """Return the setting's type and bounds in words, such as `integer from 1 to 512`."""
        return bounds(self.schema)

    def help(self) -> str:
        """Return what people are told who fill in a form: meaning, bounds, and when it counts."""
        sentences = [self.description]
        # A switch shows what it takes, and so does a choice.
        if self.schema.get("type") != "boolean" and "enum" not in self.schema:
            sentences.append(f"Takes: {self.bounds()}.")
        head, _, solver = self.section.partition(".")
        if solver:
            sentences.append(f"Counts with {head}.solver={solver} only.")
        return " ".join(sentences)


# JSON schema's words, and those for people.
_TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "empty",
}
_LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}


def bounds(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema's type and bounds in words."""
    alternatives = schema.get("anyOf")
    if isinstance(alternatives, list):
        return ", or ".join(map(bounds, alternatives))
    values = schema.get("enum")
    if isinstance(values, list):
        return ", ".join(map(str, values))

    words = [_TYPES[str(schema["type"])]]
    for key, word in _LIMITS.items():
        if key in schema:
            # All digits and no exponent, as people would type it.
            words.append(f"{word} {schema[key]:.10g}")
    if "minLength" in schema or "maxLength" in schema:
        words.append(_length(schema))
    if "pattern" in schema:
        words.append(f"of the form {schema['pattern']}")
    return " ".join(words)


def _length(schema: Mapping[str, Any]) -> str:
    """Return how long a text may be, in words."""
    least = schema.get("minLength", 0)
    if "maxLength" in schema:
        return f"of {least} to {schema['maxLength']} characters"
    return f"of {least} characters or more"


def settings(config: Config | None = None) -> Iterator[Setting]:
    """Yield every setting of `config` (None: the shipped defaults), in order."""
    yield from _leaves(config or Config(), prefix="")


def _leaves(section: BaseModel, prefix: str) -> Iterator[Setting]:
    schema = type(section).model_json_schema()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        full_name = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _leaves(value, prefix=f"{full_name}.")
            continue
        said_elsewhere = ("default", "description", "title")
        leaf = schema["properties"][name]
        yield Setting(
            name=full_name,
            section=full_name.rpartition(".")[0],
            default=value,
            schema={key: leaf[key] for key in leaf if key not in said_elsewhere},
            description=field.description or "",
            shapes=_what_shapes(full_name, field),
        )


def _what_shapes(name: str, field: FieldInfo) -> Shapes:
    marks = [mark.what for mark in field.metadata if isinstance(mark, _Shapes)]
    if len(marks) != 1:
        raise TypeError(
            f"the setting {name} does not say what it shapes; define it with `setting(..., "
            f"shapes=...)`, one of {', '.join(get_args(Shapes))}"
        )
    return marks[0]


def make_config(overrides: Mapping[str, Any] | None = None, base: Config | None = None) -> Config:
    """Return `base` (the shipped defaults if None) with dotted `overrides` applied.

    Strings are taken as text for text settings and as numbers or booleans elsewhere, and an empty
    one as none, so that `--set` and the trigger form share this one path.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    nested = (base or Config()).model_dump()
    for name, value in (overrides or {}).items():
        _put(nested, name, value)
    return validated(Config, nested)


def load_config(path: str | Path | None) -> Config:
    """Return the settings of a TOML file, or the shipped defaults for None or "".

    The file has sections and names as in `Config`. Several files may be named, parted as in PATH;
    what a later one says counts.

    Raises:
        ConfigError: a file is missing or not TOML, or holds an unknown name or a value out of its
            bounds.
    """
    nested = read_settings_file(path)
    of_run = {name: nested[name] for name in nested if name not in DEPLOYMENT_SECTIONS}
    return validated(Config, of_run, f"in the settings file {path}: ")


def read_settings_file(path: str | Path | None) -> dict[str, Any]:
    """Return the tables of the settings file, nothing for None or "". Raises ConfigError."""
    nested: dict[str, Any] = {}
    for file in str(path or "").split(os.pathsep):
        if file:
            _lay_over(nested, _read_toml(file))
    return nested


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} can't be read ({error.strerror}); check MF_CONFIG."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the settings file {path} is not UTF-8 text (byte {error.start + 1}); save it as "
            "UTF-8, which TOML is written in."
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}.") from None
    except ValueError:
        raise ConfigError(
            f"the settings file {path!r} is no path to a file; check MF_CONFIG."
        ) from None


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Put the tables of a later file over those of an earlier one."""
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            _lay_over(below[name], value)
        else:
            below[name] = value


def validated(model: type[_Model], nested: Any, where: str = "") -> _Model:
    """Return `nested` as a settings class; `where` begins the message. Raises ConfigError."""
    try:
        return model.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(f"{where}{_explain(error)}") from None


def _put(nested: dict[str, Any], name: str, value: Any) -> None:
    """Set one setting by its dotted name. Raises ConfigError if there is none of that name."""
    unknown = ConfigError(f"there is no setting {name!r}; `mf config` lists all of them.")
    *path, leaf = name.split(".")
    section = nested
    for part in path:
        section = section.get(part, {})
        if not isinstance(section, dict):
            raise unknown
    if leaf not in section:
        raise unknown
    before = section[leaf]
    if isinstance(before, dict):
        # A section is no setting.
        raise unknown

    # An empty text stands for no value, but where the setting is a text itself.
    is_text = isinstance(before, str)
    section[leaf] = None if value == "" and not is_text else value


def _shown_input(value: Any) -> str:
    """Return a refused value, cut and without a URI's secrets."""
    return without_secrets(repr(value))[:80]


def _explain(error: ValidationError) -> str:
    expected = {setting.name: setting.bounds() for setting in settings()}
    problems = [_problem(found, expected) for found in error.errors()]
    return "; ".join(problems) + ". `mf config` lists every setting with its bounds."


def _problem(found: ErrorDetails, expected: Mapping[str, str]) -> str:
    """Return one thing that is wrong in words; `expected` are the bounds by a setting's name."""
    if found["type"] == "value_error":
        # From a validator above, which names the settings itself.
        return str(found["ctx"]["error"])
    name = ".".join(map(str, found["loc"]))
    if name in expected:
        return f"{name}: expected {expected[name]}, got {_shown_input(found['input'])}"
    if found["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name}: {found['msg']}, got {_shown_input(found['input'])}"
