"""Which settings are searched, and between which bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from mf_core.config import Config, Setting, settings
from mf_core.errors import ConfigError

Head = Literal["rating", "ranking"]


@dataclass(frozen=True)
class Range:
    """Where to look for one setting, and at its present value; its type, and narrower bounds, are those of the setting itself."""

    name: str
    low: float
    high: float
    log: bool = True


SPACES: Mapping[str, tuple[Range, ...]] = {
    "bayes": (
        Range("rating_head.bayes.n_factors", 4, 64),
        Range("rating_head.bayes.pattern_rank", 16, 512),
    ),
    "als": (
        Range("rating_head.als.n_factors", 4, 128),
        Range("rating_head.als.regularization", 0.01, 1.0),
        Range("rating_head.als.bias_regularization", 0.1, 30.0),
    ),
    "gradient": (
        Range("rating_head.gradient.n_factors", 4, 128),
        Range("rating_head.gradient.learning_rate", 1e-4, 0.1),
        Range("rating_head.gradient.regularization", 1e-3, 2.0),
        Range("rating_head.gradient.batch_size", 256, 16_384),
    ),
    "ranking": (
        Range("ranking_head.n_factors", 8, 256),
        Range("ranking_head.unobserved_weight", 1e-3, 1.0),
        Range("ranking_head.regularization", 1e-4, 1.0),
        Range("ranking_head.regularization_exponent", 0.0, 2.0, log=False),
        Range("ranking_head.lowest_target", 0.0, 1.0, log=False),
    ),
}
"""What is searched, by the rating head's solver, and for the ranking head. What only trades time for accuracy is not."""


def search_space(config: Config, head: Head) -> dict[str, BaseDistribution]:
    """Return what is searched for the head that `config` sets up, by the name of the setting.

    Raises:
        ConfigError: the solver has nothing to tune.
    """
    if (
        head == "rating"
        and config.rating_head.solver == "gradient"
        and config.rating_head.gradient.preset == "seed"
    ):
        raise ConfigError(
            "preset `seed` is the 2016 post's model, constants included; set rating_head.gradient.preset=biased."
        )
    known = {setting.name: setting for setting in settings(config)}
    ranges = SPACES[config.rating_head.solver if head == "rating" else "ranking"]
    # What is switched off (0 on a logarithmic range) stays off.
    return {
        r.name: _distribution(r, known[r.name])
        for r in ranges
        if known[r.name].default or not r.log
    }


def _distribution(wanted: Range, setting: Setting) -> BaseDistribution:
    schema, now = setting.schema, setting.default
    low = max(min(wanted.low, now), schema.get("minimum", wanted.low))
    high = min(max(wanted.high, now), schema.get("maximum", wanted.high))
    if schema["type"] == "integer":
        return IntDistribution(int(low), int(high), log=wanted.log)
    return FloatDistribution(low, high, log=wanted.log)
