"""The settings of everything around source and solvers, a class for each section."""

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from mf_core.config.field import Section, setting
from mf_core.config.weights import canonical


class DataConfig(Section):
    """What a rating is, and which data are good enough to train on."""

    kind: Literal["ratings", "events"] = setting(
        "ratings",
        shapes="model",
        description="What the source holds: `ratings` on a scale, or `events` without one (plays, "
        "clicks, purchases), of which any positive weight is relevant; of events lists are made, "
        "and no ratings predicted.",
    )
    scale_low: float = setting(1.0, shapes="model", description="Lowest rating of the scale.")
    scale_high: float = setting(5.0, shapes="model", description="Highest rating of the scale.")
    relevant_from: float = setting(
        4.0,
        shapes="model",
        description="Ratings from here on count as relevant (ranking head, list metrics).",
    )
    half_life_days: float | None = setting(
        None,
        shapes="model",
        description="Days in which a rating or an event comes to say half of what it says of its "
        "user's wishes, when the ranking head learns and makes lists, counted back from the latest "
        "one; empty: all say the same. It needs times; what has none counts as the oldest.",
        ge=1,
        le=36_500,
    )
    popular_half_life_days: float | None = setting(
        None,
        shapes="model",
        description="Days in which a relevant rating comes to count half for an item's popularity, "
        "in lists and in the baseline, counted back from the latest rating; empty: all count the "
        "same. Needs dated ratings; one without a time counts as the oldest.",
        ge=1,
        le=36_500,
    )
    event_weights: str = setting(
        "",
        shapes="nothing",
        description="Events: what each type of `source.event_column` counts, such as `purchase=1, "
        "view=.2, dislike=-1`; `*=0` leaves out all others, which are refused without it. In the "
        "settings file also a table. Empty: there are no types, and each event counts 1.",
        max_length=4_000,
    )
    event_cap: float | None = setting(
        None,
        shapes="nothing",
        description="Events: how many events of one type count at most for a user and an item (or "
        "how much of their weights); 1: whether there was one. Empty: all count.",
        gt=0,
        le=1e9,
    )
    ingest_mode: Literal["merge", "replace", "add"] = setting(
        "merge",
        shapes="nothing",
        description="`replace` also removes the ratings, items and users that the source no "
        "longer has. Events: `merge` replaces what the same source has brought before, `replace` "
        "what all sources have, `add` nothing: the source brings only new events.",
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
    max_repeated_share: float = setting(
        0.5,
        shapes="nothing",
        description="Events: a source is refused of which more than this share is there already, "
        "to the same last event, from another source: it would count twice.",
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

    @field_validator("event_weights", mode="before")
    @classmethod
    def _weights_have_one_form(cls, value: Any) -> Any:
        return canonical(value)

    @model_validator(mode="after")
    def _what_is_of_events_goes_with_events(self) -> Self:
        if self.kind == "events":
            return self
        for_events = {
            "data.ingest_mode is add": self.ingest_mode == "add",
            "data.event_weights is set": bool(self.event_weights),
            "data.event_cap is set": self.event_cap is not None,
        }
        for said, is_so in for_events.items():
            if is_so:
                raise ValueError(
                    f"{said}, but data.kind is ratings; set data.kind to events, or take that back"
                )
        return self

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


class SplitConfig(Section):
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


class TrainConfig(Section):
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
    settings: Literal["found", "fixed"] = setting(
        "found",
        shapes="model",
        description="`found`: the training chooses settings of the heads on a validation part of "
        "the training ratings, on the first night and now and then; what you set to something "
        "other than its default stays. `fixed`: exactly the settings of the run.",
    )
    search_every: int = setting(
        30,
        shapes="nothing",
        description="With train.settings=found: every so many versions they are searched again; "
        "earlier where the ratings, users or items are 1.5 times as many, or fewer by that.",
        ge=1,
        le=10_000,
    )


class GateConfig(Section):
    """When a candidate may be published. Fail-closed: a missing figure refuses."""

    max_rmse: float | None = setting(
        None,
        shapes="verdict",
        description="Ceiling of the test RMSE, in rating units; empty: the error of predicting the "
        "mean everywhere.",
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
    require_item_baseline: Literal["refuse", "warn", "off"] = setting(
        "warn",
        shapes="verdict",
        description="What happens where the lists are worse than those of the item-item baseline "
        "(EASE on the same ratings), by their 95% interval; `off`: it is not fitted either.",
    )
    max_rmse_loss: float | None = setting(
        None,
        shapes="verdict",
        description="Non-inferiority margin in RMSE against the champion and the recent best, in "
        "rating units; empty: a hundredth of the error of predicting the mean everywhere.",
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


class RunConfig(Section):
    """The run as a whole."""

    dry_run: bool = setting(
        False, shapes="nothing", description="Stop after the verdict; publish nothing."
    )
    force: bool = setting(
        False,
        shapes="nothing",
        description="Train even if nothing is new since the live version: neither the ratings and "
        "the hidden items nor the settings and the code that shape the result.",
    )
    capacity: Literal["refuse", "warn", "off"] = setting(
        "refuse",
        shapes="nothing",
        description="What happens where the memory or disk that a run will need, by its counts, is "
        "more than there is: it is refused before training, goes on with a warning, or nobody "
        "looks.",
    )
