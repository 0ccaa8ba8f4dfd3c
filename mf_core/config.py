"""All settings, defined once: bounds, defaults and descriptions.

The trigger form's Params (`dags/`), the CLI's `--set section.name=value`, the file named by `MF_CONFIG` and the table in
`docs/config.md` are all generated from these models. Names are dotted paths such as `rating_head.als.n_factors`.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mf_core.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SourceConfig(_Section):
    """Where the ratings come from."""

    uri: str = Field(
        "ml-100k",
        description="Path or URI of the ratings (any fsspec URI; a file, a MovieLens folder or zip), `ml-100k` for the demo's "
        "download, or `sql` for a query on another database.",
        min_length=1,
        max_length=2000,
    )
    layout: Literal["auto", "movielens", "csv", "parquet"] = Field(
        "auto", description="How to read the file; `auto` decides by its name and first line."
    )
    delimiter: str = Field(
        "",
        description="Field separator of a text file; empty: decided from the first line.",
        max_length=4,
    )
    user_column: str = Field("user_id", description="Column that holds the user id.", min_length=1)
    item_column: str = Field("item_id", description="Column that holds the item id.", min_length=1)
    rating_column: str = Field("rating", description="Column that holds the rating.", min_length=1)
    time_column: str = Field(
        "timestamp",
        description="Column that holds the time (epoch seconds or ISO 8601); may be absent.",
    )
    side_column: str = Field(
        "", description="Column that says `train` or `test` (split protocol `given`); empty: none."
    )
    test_uri: str = Field(
        "",
        description="Second file whose rows are the test side (split protocol `given`); empty: none.",
    )
    items_uri: str = Field(
        "",
        description="File of item ids, titles and attributes; empty: beside the ratings, if there.",
    )
    users_uri: str = Field(
        "", description="File of user ids and attributes; empty: beside the ratings, if there."
    )
    sha256: str = Field(
        "",
        description="Expected sha256 of the ratings file; empty: not checked.",
        pattern="^([0-9a-f]{64})?$",
    )
    query: str = Field(
        "", description="With uri `sql`: the SELECT whose columns are named as above."
    )
    database_url_env: str = Field(
        "MF_SOURCE_DATABASE_URL",
        description="With uri `sql`: the environment variable that holds the SQLAlchemy URL.",
    )
    chunk_rows: int = Field(
        500_000, description="Rows read and loaded at a time.", ge=1_000, le=20_000_000
    )


class DataConfig(_Section):
    """What a rating is, and which data are good enough to train on."""

    scale_low: float = Field(1.0, description="Lowest rating of the scale.")
    scale_high: float = Field(5.0, description="Highest rating of the scale.")
    relevant_from: float = Field(
        4.0, description="Ratings from here on count as relevant (ranking head, list metrics)."
    )
    ingest_mode: Literal["merge", "replace"] = Field(
        "merge",
        description="`replace` also removes the ratings, items and users that the source no longer has.",
    )
    max_rejected_share: float = Field(
        0.01, description="More bad rows than this share refuse the whole batch.", ge=0, le=1
    )
    max_removed_share: float = Field(
        0.5,
        description="`replace` refuses a source that would remove more than this share of the ratings.",
        ge=0,
        le=1,
    )
    min_ratings: int = Field(1_000, description="Fewest ratings to train on.", ge=1)
    min_users: int = Field(20, description="Fewest users to train on.", ge=1)
    min_items: int = Field(20, description="Fewest items to train on.", ge=1)
    max_volume_drop: float = Field(
        0.2,
        description="Largest drop of the number of ratings against the last trained data, as a share.",
        ge=0,
        le=1,
    )
    max_volume_growth: float = Field(
        5.0,
        description="Largest growth of the number of ratings against the last trained data, as a share.",
        ge=0,
    )

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> Self:
        if not self.scale_low < self.scale_high:
            raise ValueError(
                f"scale_low {self.scale_low} must be below scale_high {self.scale_high}"
            )
        if not self.scale_low <= self.relevant_from <= self.scale_high:
            raise ValueError(
                f"relevant_from {self.relevant_from} must lie in {self.scale_low}..{self.scale_high}"
            )
        return self


class SplitConfig(_Section):
    """Which ratings are held out."""

    protocol: Literal["hash", "temporal", "leave_last", "given"] = Field(
        "hash",
        description="hash of (user, item, seed); temporal: a global cut; leave_last: each user's last; given: by the source.",
    )
    test_fraction: float = Field(
        0.3, description="Share of the ratings on the test side (hash, temporal).", gt=0, lt=1
    )
    seed: int = Field(0, description="Seed of the hash split.", ge=0, le=2**31 - 1)


class AlsConfig(_Section):
    """Alternating least squares on explicit ratings, with biases."""

    n_factors: int = Field(32, description="Number of factors.", ge=1, le=512)
    iterations: int = Field(20, description="Sweeps at most.", ge=1, le=1_000)
    regularization: float = Field(
        0.09,
        description="Ridge on the factors, times 40 plus the number of ratings of the row.",
        gt=0,
        le=1e6,
    )
    bias_regularization: float = Field(
        2.0, description="Ridge on the biases, in ratings.", gt=0, le=1e6
    )
    conjugate_steps: int = Field(
        2, description="Steps of conjugate gradients per row and sweep.", ge=1, le=1_000
    )


class BayesConfig(_Section):
    """Bayesian matrix factorization by Gibbs sampling, with implicit features on both sides."""

    n_factors: int = Field(26, description="Number of factors of a sample.", ge=1, le=512)
    sweeps: int = Field(120, description="Sweeps at most, the burn-in included.", ge=2, le=100_000)
    burn_in: int = Field(
        10,
        description="Sweeps before the mean of the samples begins, at most half of them all.",
        ge=1,
        le=100_000,
    )
    patience: int = Field(
        50,
        description="Sweeps in which the mean must gain a ten-thousandth of its validation error to go on.",
        ge=1,
        le=100_000,
    )
    pattern_rank: int = Field(
        36,
        description="Implicit features per side: leading singular vectors of who rated what; 0: none.",
        ge=0,
        le=4_096,
    )
    kept_samples: int = Field(
        16,
        description="Samples kept for the standard deviation of predictions; 0: none is published.",
        ge=0,
        le=1_000,
    )
    output_factors: int = Field(
        128, description="Number of factors that hold the mean of all samples.", ge=1, le=2_048
    )
    side_information: bool = Field(
        False,
        description="Learn from the attributes in `mf.users` and `mf.items` too; those who have some and no rating are predicted "
        "from them, and new users among them get rows.",
    )


class GradientConfig(_Section):
    """Gradient descent: the 2016 post's model, or a biased one with mini-batch Adam."""

    preset: Literal["biased", "seed"] = Field(
        "biased",
        description="biased: biases, L2, mini-batch Adam, early stopping; seed: the 2016 post's model and loss exactly.",
    )
    n_factors: int = Field(
        32, description="Number of factors (seed: 10 as in the post).", ge=1, le=512
    )
    epochs: int = Field(
        100,
        description="Epochs at most (seed: full-batch steps, 500 in the post).",
        ge=1,
        le=100_000,
    )
    learning_rate: float = Field(
        0.003, description="Adam's step size (seed: .001 as in the post).", gt=0, le=10
    )
    regularization: float = Field(
        0.15, description="L2 on factors and biases (seed: L1 .001 as in the post).", ge=0, le=1e6
    )
    batch_size: int = Field(2_048, description="Ratings per mini-batch.", ge=1, le=10_000_000)


class RatingHeadConfig(_Section):
    """The model that predicts ratings; its test error is what the gate is about."""

    solver: Literal["bayes", "als", "gradient"] = Field(
        "bayes", description="Which solver fits the rating head."
    )
    validation_fraction: float = Field(
        0.05,
        description="Share of the training rows kept for early stopping, a fifth of it for bayes; 0: run all iterations.",
        ge=0,
        lt=0.5,
    )
    patience: int = Field(
        5,
        description="Iterations without a better validation error before stopping.",
        ge=1,
        le=1_000,
    )
    bayes: BayesConfig = BayesConfig()
    als: AlsConfig = AlsConfig()
    gradient: GradientConfig = GradientConfig()

    def chosen(self) -> BayesConfig | AlsConfig | GradientConfig:
        """Return the settings of the chosen solver."""
        solvers: dict[str, BayesConfig | AlsConfig | GradientConfig]
        solvers = {"bayes": self.bayes, "als": self.als, "gradient": self.gradient}
        return solvers[self.solver]

    def iteration_limit(self) -> int:
        """Return how many iterations the chosen solver runs at most."""
        return {
            "bayes": self.bayes.sweeps,
            "als": self.als.iterations,
            "gradient": self.gradient.epochs,
        }[self.solver]

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return self.solver == "bayes" and self.bayes.side_information


class RankingHeadConfig(_Section):
    """Implicit ALS on who rated what, and how much they liked it; orders the list."""

    learn_from: Literal["all", "relevant"] = Field(
        "all",
        description="Which ratings of the users with a relevant rating are observations: `all`, or only the `relevant` ones.",
    )
    lowest_target: float = Field(
        0.35,
        description="What the score of an observation aims at for a rating of data.scale_low; 1 for data.relevant_from, and on "
        "the line through both for any other rating. 1: the same for all.",
        ge=0,
        le=1,
    )
    n_factors: int = Field(128, description="Number of factors.", ge=1, le=512)
    iterations: int = Field(12, description="Sweeps.", ge=1, le=1_000)
    conjugate_steps: int = Field(
        3, description="Steps of conjugate gradients per row and sweep.", ge=1, le=1_000
    )
    unobserved_weight: float = Field(
        0.2, description="Weight alpha0 of the pairs nobody rated.", gt=0, le=1e3
    )
    regularization: float = Field(
        0.016, description="Ridge lambda, scaled by each row's frequency.", gt=0, le=1e6
    )
    regularization_exponent: float = Field(
        1.0, description="Exponent nu of the frequency scaling (Rendle et al. 2021).", ge=0, le=2
    )


class TrainConfig(_Section):
    """How the trainer runs."""

    device: Literal["auto", "gpu", "cpu"] = Field(
        "auto", description="`gpu` refuses to run without one."
    )
    seed: int = Field(0, description="Seed of everything random in training.", ge=0, le=2**31 - 1)
    checkpoint_seconds: float = Field(
        30.0, description="Seconds between checkpoints.", ge=0, le=86_400
    )
    warm_start: bool = Field(
        False,
        description="Start from the live version's evaluated factors where that leaks nothing (split protocol hash).",
    )
    full_restart_every: int = Field(
        7,
        description="With warm_start: every so many versions of a lineage one starts cold; 1: all of them.",
        ge=1,
        le=1_000,
    )


class GateConfig(_Section):
    """When a candidate may be published. Fail-closed: a missing figure refuses."""

    max_rmse: float | None = Field(
        None,
        description="Ceiling of the test RMSE, in rating units; empty: a quarter of the rating scale's range.",
        gt=0,
    )
    require_better_than_biases: bool = Field(
        True, description="The rating head must beat the biases-only baseline."
    )
    require_popularity: bool = Field(
        True, description="NDCG of the head that orders the list must not be below popularity's."
    )
    max_rmse_loss: float = Field(
        0.01,
        description="Non-inferiority margin in RMSE against the champion and the recent best.",
        ge=0,
    )
    max_ndcg_loss: float = Field(
        0.02,
        description="Non-inferiority margin in NDCG against the champion and the recent best.",
        ge=0,
    )
    recent_days: int = Field(
        30, description="How far back the recent best is looked for, in days.", ge=1, le=3650
    )
    min_test_ratings: int = Field(100, description="Fewest test ratings to judge on.", ge=1)
    min_test_users: int = Field(20, description="Fewest users with test ratings to judge on.", ge=2)
    bootstrap_samples: int = Field(
        1_000, description="Bootstrap resamples of the users.", ge=100, le=100_000
    )
    cutoff: int = Field(
        10, description="N of NDCG@N, Recall@N, MAP@N and hit rate.", ge=1, le=1_000
    )
    max_refit_error_ratio: float = Field(
        1.05,
        description="The refit's RMSE on all ratings may be at most this multiple of the evaluated model's.",
        ge=1,
    )
    min_refit_overlap: float = Field(
        0.2,
        description="The refit's lists must share at least this part with the evaluated model's.",
        ge=0,
        le=1,
    )


class RecommendConfig(_Section):
    """The lists."""

    top_n: int = Field(10, description="Recommendations per user that readers see.", ge=1, le=1_000)
    reserve: int = Field(
        10,
        description="Further rows kept per user, so that hiding items leaves lists full.",
        ge=0,
        le=1_000,
    )
    rank_by: Literal["ranking", "rating"] = Field(
        "ranking", description="Which head orders the list."
    )
    shards: int = Field(
        2, description="Tasks that write the recommendations side by side.", ge=1, le=256
    )
    tile_mib: int = Field(
        64, description="Memory bound of one tile of scores, in MiB.", ge=1, le=65_536
    )
    similar_items: int = Field(10, description="Similar items kept per item.", ge=0, le=1_000)


class PublishConfig(_Section):
    """How versions go live."""

    refit: bool = Field(True, description="Refit on all ratings after the gate and publish that.")
    keep_versions: int = Field(
        5, description="Published versions kept for rollback, the live one included.", ge=1, le=100
    )
    min_coverage: float = Field(
        0.0, description="Smallest share of the items that the lists must cover.", ge=0, le=1
    )


class RunConfig(_Section):
    """The run as a whole."""

    dry_run: bool = Field(False, description="Stop after the verdict; publish nothing.")
    force: bool = Field(
        False,
        description="Train even if neither the data nor the settings have changed since the live version.",
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

    def training_fingerprint(self) -> str:
        """sha256 over the settings that change what a run computes from the same ratings; hex, 64 characters."""
        settings = self.model_dump(
            mode="json", exclude={"run": True, "source": True, "train": {"checkpoint_seconds"}}
        )
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Setting:
    """One leaf of the configuration."""

    name: str
    section: str
    default: Any
    schema: dict[str, Any]
    description: str


def settings(config: Config | None = None) -> Iterator[Setting]:
    """Yield every setting with its JSON schema and its default (from `config`, or the shipped one), in order."""
    yield from _leaves(config or Config(), prefix="")


def _leaves(section: BaseModel, prefix: str) -> Iterator[Setting]:
    schema = type(section).model_json_schema()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, prefix=f"{prefix}{name}.")
            continue
        leaf = {
            k: v
            for k, v in schema["properties"][name].items()
            if k not in ("default", "description", "title")
        }
        full_name = f"{prefix}{name}"
        yield Setting(full_name, full_name.rpartition(".")[0], value, leaf, field.description or "")


def make_config(overrides: Mapping[str, Any] | None = None, base: Config | None = None) -> Config:
    """Return `base` (the shipped defaults if None) with dotted `overrides` applied.

    Strings are taken as text for text settings and as numbers or booleans elsewhere, and an empty one as none, so that `--set`
    and the trigger form share this one path.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    nested = (base or Config()).model_dump()
    for name, value in (overrides or {}).items():
        _put(nested, name, value)
    try:
        return Config.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def load_config(path: str | Path | None) -> Config:
    """Return the settings of a TOML file (sections and names as in `Config`), or the shipped defaults for None or "".

    Raises:
        ConfigError: the file is missing, is no TOML, or holds an unknown name or a value out of its bounds.
    """
    if not path:
        return Config()
    try:
        nested = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return Config.model_validate(nested)
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} can't be read ({error.strerror}); check MF_CONFIG."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}.") from None
    except ValidationError as error:
        raise ConfigError(f"in the settings file {path}: {_explain(error)}") from None


def _put(nested: dict[str, Any], name: str, value: Any) -> None:
    *path, leaf = name.split(".")
    section: Any = nested
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or leaf not in section or isinstance(section[leaf], dict):
        raise ConfigError(f"there is no setting {name!r}; `mf config` lists all of them.")
    section[leaf] = None if value == "" and not isinstance(section[leaf], str) else value


def _explain(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']} (got {e['input']!r:.80})"
        for e in error.errors()
    ]
    return "; ".join(problems) + ". `mf config` lists every setting with its bounds."
