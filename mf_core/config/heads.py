"""The settings of the two heads."""

from typing import Literal, Self

from pydantic import model_validator

from mf_core.config.field import Section, setting
from mf_core.config.solvers import AlsConfig, BayesConfig, GradientConfig, SearchRange, SolverConfig


class RatingHeadConfig(Section):
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

    def standardises(self) -> bool:
        """Say no: the targets of this head are made of the ratings as they are."""
        return False
