"""The settings of each rating solver, and what the rest of the code has to know of a solver."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from mf_core.config.field import Section, setting
from mf_core.errors import ConfigError


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


class SolverConfig(Section):
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
    start_must_share: ClassVar[tuple[str, ...]] = ()
    keeps_last: ClassVar[bool] = False
    least_gain: ClassVar[float] = 0.0
    search: ClassVar[tuple[SearchRange, ...]] = ()
    tuning_overrides: ClassVar[Mapping[str, Any]] = {}

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

    def copies_of_ratings(self) -> int:
        """Return how many times a fit holds the ratings, grouped by both sides."""
        return 1

    def floats_per_row(self, shape: tuple[int, int]) -> int:
        """Return how many float32 a saved model holds of each user and item, all that go with it.

        That is what disk and memory of the steps after the fit are predicted by; `shape` is
        (n_users, n_items).
        """
        return 1

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return False

    def standardises(self) -> bool:
        """Say whether the solver gets the ratings centred and in standard deviations."""
        return True

    def search_ranges(self) -> tuple[SearchRange, ...]:
        """Return what `mf tune` searches.

        Raises:
            ConfigError: with these settings there is nothing to tune.
        """
        return self.search


class FactorsConfig(SolverConfig):
    """The settings of a solver that finds factors."""

    start_must_share: ClassVar[tuple[str, ...]] = ("n_factors",)

    n_factors: int = setting(32, shapes="model", description="Number of factors.", ge=1, le=512)

    def floats_per_row(self, shape: tuple[int, int]) -> int:
        """Return the factors and the bias."""
        return self.n_factors + 1


class AlsConfig(FactorsConfig):
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
        0.08,
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


class BayesConfig(FactorsConfig):
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
        100, shapes="model", description="Sweeps at most, the burn-in included.", ge=2, le=100_000
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
        100,
        shapes="model",
        description="Sweeps in which the mean must gain a ten-thousandth of its validation error "
        "to go on; as many as `sweeps` or more: it always does, and no rating is held out to see.",
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
        """Return a fifth, since that part decides nothing but when to stop; 0 if not even that."""
        return 0.0 if self.patience >= self.sweeps else 0.2

    def floats_per_row(self, shape: tuple[int, int]) -> int:
        """Return factors and bias of the mean, and those and the variance of each sample."""
        return self.output_factors + 1 + self.kept_samples * (self.n_factors + 2)

    def uses_attributes(self) -> bool:
        """Say whether attributes of users and items take part."""
        return self.side_information


class GradientConfig(FactorsConfig):
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
        0.14,
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

    def standardises(self) -> bool:
        """Say yes, but no for preset `seed`: the post's model predicts the ratings as they are."""
        return self.preset != "seed"

    def search_ranges(self) -> tuple[SearchRange, ...]:
        """Return what `mf tune` searches. Raises ConfigError: preset `seed` has nothing to tune."""
        if self.preset == "seed":
            raise ConfigError(
                "preset `seed` is the 2016 post's model, constants included; set "
                "rating_head.gradient.preset=biased."
            )
        return self.search


class BiasesConfig(SolverConfig):
    """The mean and what each user and item adds to it, without factors."""

    keeps_last = True

    sweeps: int = setting(12, shapes="model", description="Sweeps.", ge=1, le=1_000)

    def iteration_limit(self) -> int:
        """Return how many sweeps a fit runs."""
        return self.sweeps

    def validation_share(self) -> float:
        """Return 0: the dampings are set by the ratings fitted, and nothing has to be stopped."""
        return 0.0

    def search_ranges(self) -> tuple[SearchRange, ...]:
        """Raise ConfigError: the ratings themselves set what could be tuned."""
        raise ConfigError(
            "rating_head.solver is biases, which sets its dampings by itself; there is nothing to "
            "tune. Name another solver by --solver."
        )
