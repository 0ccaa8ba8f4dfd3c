"""Which solver fits the rating head: by default `bayes`, another one where it predicts better.

With many ratings a user, `bayes` is ahead of everything else here. Where the ratings tell nothing
of tastes, as with one rating a user, it can only lose against damped means. So `bayes`, `als` and
`biases` are fitted to the same training rows and compared on rows that none of them saw.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mf_core.config import Config, pinned, with_found
from mf_core.data.ratings import Float64s, IdMap
from mf_core.errors import ConfigError, TrainingError
from mf_core.figures import RMSE
from mf_core.training.search_rows import Log, Outcome, Part

SOLVER = "rating_head.solver"
RIVALS = ("als", "biases")
# So many sweeps of `bayes` tell that it is ahead, where it is. Where it is not yet, the larger
# number tells how good its mean will be; more would gain a few thousandths.
_SWEEPS = (16, 40)
_BURN_IN = 8
# More ratings than these only cost time: the solvers are compared on a part of the users.
_MOST_RATINGS = 1_000_000
_SAMPLE_SEED = 3_000_003


def choose_rating_solver(
    config: Config,
    parts: Sequence[Part],
    users: IdMap,
    items: IdMap,
    log: Log,
) -> Outcome:
    """Return the solver that predicts the validation ratings best.

    Another solver than `bayes` is taken where its mean squared error is lower by more than one
    standard error of the difference, which is taken over the same ratings. A solver that a person
    has chosen is left alone, and so is `bayes` where it is to learn from attributes.

    Args:
        config: the settings of the run.
        parts: training ratings in two, once or more: those to fit, and those to judge by.
        users: ids of all users, in row order.
        items: ids of all items, in row order.
        log: called with lines for people.
    """
    if SOLVER in pinned(config) or config.rating_head.uses_attributes():
        return Outcome({}, f"{config.rating_head.solver} rates, as the settings say", [])
    if not all(len(part.fitted) and len(part.validation) for part in parts):
        return Outcome({}, "too few ratings to compare solvers on", [])

    compared = _Comparison(config, parts, users, items, log)
    rivals = {name: compared.errors_or_none({SOLVER: name}) for name in RIVALS}
    try:
        ours = _errors_of_bayes(compared, rivals)
    except TrainingError as error:
        # The fit itself will say so too, if it is not only this part of the ratings.
        return Outcome({}, f"the solvers could not be compared: {error}", [])
    best: dict[str, Any] = {}
    lowest = ours.mean()
    for name, theirs in rivals.items():
        if theirs is not None and _is_lower(theirs, ours) and theirs.mean() < lowest:
            best = {SOLVER: name}
            lowest = theirs.mean()
    return Outcome(best, compared.grounds(best), compared.trials)


def _errors_of_bayes(compared: "_Comparison", rivals: Mapping[str, Float64s | None]) -> Float64s:
    """Return its squared errors, after as few sweeps as tell that it is ahead."""
    known = [theirs for theirs in rivals.values() if theirs is not None]
    few, many = _SWEEPS
    errors = compared.errors({}, few)
    if known and all(_is_lower(errors, theirs) for theirs in known):
        return errors
    return compared.errors({}, many)


def _is_lower(errors: Float64s, others: Float64s) -> bool:
    """Say whether the mean is lower by more than one standard error of the difference."""
    gain = others - errors
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


class _Comparison:
    """Fits solvers to the same rows, and measures them on the same others."""

    def __init__(
        self, config: Config, parts: Sequence[Part], users: IdMap, items: IdMap, log: Log
    ) -> None:
        self._config = config
        n_ratings = len(parts[0].fitted)
        self._share = min(1.0, _MOST_RATINGS / max(n_ratings, 1))
        self._parts = [_sample(part, len(users), self._share) for part in parts]
        self._users = users
        self._items = items
        self._log = log
        self.trials: list[dict[str, Any]] = []

    def errors_or_none(self, tried: dict[str, Any]) -> Float64s | None:
        """Return the squared errors with the settings `tried`; None where that can't be done.

        A run that starts warm takes no solver that can't.
        """
        try:
            return self.errors(tried)
        except (ConfigError, TrainingError) as error:
            self._log(f"search: {_name(self._config, tried)} is no choice: {error}")
            return None

    def errors(self, tried: dict[str, Any], sweeps: int = 0) -> Float64s:
        """Return the squared error of each validation rating, predictions clipped to the scale.

        `sweeps` is how many `bayes` may make.
        """
        began = time.monotonic()
        config = _quick(with_found(self._config, tried), sweeps)
        errors = np.concatenate([self._on_part(config, part) for part in self._parts])
        rmse = float(errors.mean() ** 0.5)
        self._log(f"search: {RMSE.words.removeprefix('test ')} {rmse:.4f} with {_name(config, {})}")
        self.trials.append(
            {
                "head": "rating",
                "settings": tried,
                "metric": RMSE.name,
                "value": rmse,
                "users": self._share,
                "iterations": 1.0,
                "seconds": round(time.monotonic() - began, 2),
            }
        )
        return errors

    def _on_part(self, config: Config, part: Part) -> Float64s:
        from mf_core.solvers.fit import fit_rating_head

        judged = part.validation
        fit = fit_rating_head(config, part.fitted, self._users, self._items, validation=judged)
        predicted = fit.model.predict(judged.user, judged.item)
        data = config.data
        error = predicted.clip(data.scale_low, data.scale_high) - judged.value
        return np.square(error)

    def grounds(self, chosen: dict[str, Any]) -> str:
        """Return the figures that decided, in words."""
        # The last trial of a solver is the one that counted.
        rmse: dict[str, float] = {}
        for trial in self.trials:
            solver = _name(self._config, trial["settings"])
            rmse[solver] = trial["value"]

        best_first = sorted(rmse, key=rmse.__getitem__)
        figures = ", ".join(f"{solver} {rmse[solver]:.4f}" for solver in best_first)
        n_judged = sum(len(part.validation) for part in self._parts)
        name = _name(self._config, chosen)
        return f"{name} rates: RMSE on {n_judged:,} validation ratings {figures}"


def _name(config: Config, tried: dict[str, Any]) -> str:
    """Return the solver that `config` names with the settings `tried` over it."""
    return str(tried.get(SOLVER, config.rating_head.solver))


def _quick(config: Config, sweeps: int) -> Config:
    """Return settings with which `bayes` shows soon how good it is."""
    bayes = config.rating_head.bayes
    sweeps = min(bayes.sweeps, sweeps)
    quick = bayes.model_copy(
        update={"sweeps": sweeps, "burn_in": min(_BURN_IN, sweeps // 2), "kept_samples": 0}
    )
    head = config.rating_head.model_copy(update={"bayes": quick})
    return config.model_copy(update={"rating_head": head})


def _sample(part: Part, n_users: int, share: float) -> Part:
    """Return the ratings of a part of the users; all where `share` is 1."""
    if share >= 1:
        return part
    draws = np.random.default_rng(_SAMPLE_SEED).random(n_users)
    return part.of_users(draws < share)
