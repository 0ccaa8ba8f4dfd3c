"""The settings of the two heads."""

from typing import Literal, Self

from pydantic import model_validator

from mf_core.config.field import Section, setting
from mf_core.config.solvers import (
    AlsConfig,
    BayesConfig,
    BiasesConfig,
    FactorsConfig,
    GradientConfig,
    SearchRange,
    SolverConfig,
)


class RatingHeadConfig(Section):
    """The model that predicts ratings; its test error is what the gate is about."""

    solver: Literal["bayes", "als", "gradient", "biases"] = setting(
        "bayes", shapes="model", description="Which solver fits the rating head."
    )
    validation_fraction: float = setting(
        0.05,
        shapes="model",
        description="Share of the training rows kept for early stopping; a fifth of it for bayes, "
        "where its patience can end a fit; none for gradient's preset `seed`. 0: run all "
        "iterations.",
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
    biases: BiasesConfig = BiasesConfig()

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


_OF_ALS = (
    "lowest_target",
    "n_factors",
    "iterations",
    "conjugate_steps",
    "unobserved_scale",
    "regularization",
    "regularization_exponent",
)


class RankingHeadConfig(FactorsConfig):
    """Orders the list, by who rated what and how much they liked it."""

    takes_start = True
    start_must_share = ("learner", "n_factors")
    search = (
        SearchRange("item_prior", 10, 1_000),
        SearchRange("item_dropout", 0.1, 0.9, log=False),
        SearchRange("item_share", 0.1, 0.95, log=False),
        SearchRange("n_factors", 8, 256),
        SearchRange("unobserved_scale", 0.05, 5.0),
        SearchRange("regularization", 1e-4, 1.0),
        SearchRange("regularization_exponent", 0.0, 2.0, log=False),
        SearchRange("lowest_target", 0.0, 1.0, log=False),
    )

    learn_from: Literal["all", "relevant"] = setting(
        "all",
        shapes="model",
        description="Which ratings are observations: `all`, or only those from "
        "`data.relevant_from` on (`relevant`).",
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
    negative_target: float = setting(
        0.0,
        shapes="model",
        description="Events: what the score of a pair of negative weight aims at, in units of what "
        "as large a positive one aims at. At 0 it counts against the item in least squares alone.",
        ge=-1,
        le=0,
    )
    learner: Literal["blend", "als", "item_item"] = setting(
        "blend",
        shapes="model",
        description="Which learner orders the lists: implicit least squares, a linear autoencoder "
        "between items, or both.",
    )
    item_share: float = setting(
        0.5,
        shapes="model",
        description="Weight of the item-item learner's scores in a blend; both are in standard "
        "deviations of a user's scores.",
        gt=0,
        lt=1,
    )
    item_factors: int = setting(
        384,
        shapes="model",
        description="Number of factors that hold the item-item weights; as many as items hold them "
        "exactly.",
        ge=1,
        le=4_096,
    )
    item_passes: int = setting(
        4,
        shapes="model",
        description="Passes of subspace iteration that find these factors.",
        ge=1,
        le=1_000,
    )
    item_lowest_target: float = setting(
        0.0,
        shapes="model",
        description="What `lowest_target` is to least squares, for the item-item learner.",
        ge=0,
        le=1,
    )
    item_prior: float = setting(
        200.0,
        shapes="model",
        description="Ratings that an item's own count as so many more of, before it is compared "
        "with others.",
        gt=0,
        le=1e6,
    )
    item_dropout: float = setting(
        0.6,
        shapes="model",
        description="Share of a user's ratings that the item-item learner leaves out and rebuilds "
        "from the others.",
        gt=0,
        lt=1,
    )
    popular_ratings: float | None = setting(
        2.0,
        shapes="model",
        description="Popular items count in the list of a user with few ratings: with one rating "
        "as much as the learner, and e times less for every so many more; empty: never.",
        gt=0,
        le=1e6,
    )
    recent_half_life: float | None = setting(
        None,
        shapes="model",
        description="After so many later ratings of the same user a rating counts about half in "
        "that user's list; empty: all count the same. Needs dated ratings; one without a time "
        "counts as the oldest.",
        ge=1,
        le=10_000,
    )
    n_factors: int = setting(
        128, shapes="model", description="Number of factors of least squares.", ge=1, le=512
    )
    iterations: int = setting(
        12, shapes="model", description="Sweeps of least squares.", ge=1, le=1_000
    )
    conjugate_steps: int = setting(
        3,
        shapes="model",
        description="Steps of conjugate gradients per row and sweep.",
        ge=1,
        le=1_000,
    )
    unobserved_scale: float = setting(
        0.9,
        shapes="model",
        description="Weight of the pairs nobody rated, in units of the root of the share of pairs "
        "that are rated.",
        gt=0,
        le=1e3,
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
        """Return how many iterations a fit runs."""
        return self.item_passes if self.learner == "item_item" else self.iterations

    def standardises(self) -> bool:
        """Say no: the targets of this head are made of the ratings as they are."""
        return False

    def copies_of_ratings(self) -> int:
        """Return one for each learner, whose targets differ; and as many where tastes fade."""
        copies = len(self.learners())
        return 2 * copies if self.recent_half_life else copies

    def floats_per_row(self, shape: tuple[int, int]) -> int:
        """Return the factors of all learners, and the bias."""
        of_als = self.n_factors if "als" in self.learners() else 0
        of_item_item = min(self.item_factors, *shape) if "item_item" in self.learners() else 0
        return of_als + of_item_item + 1

    def learners(self) -> tuple[str, ...]:
        """Return the learners that take part."""
        return ("als", "item_item") if self.learner == "blend" else (self.learner,)

    def alone(self, learner: str) -> Self:
        """Return the settings of one learner by itself, without popularity.

        What has no say then is as shipped: equal settings are an equal fit.
        """
        idle = set(_OF_ALS) if learner == "item_item" else set()
        for name in type(self).model_fields:
            if name == "item_share" or (learner == "als" and name.startswith("item_")):
                idle.add(name)
        kept = self.model_dump(exclude=idle)
        return type(self)(**{**kept, "learner": learner, "popular_ratings": None})
