"""Which settings are searched, and between which bounds: the solver's settings class says so."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from mf_core.config import Config, SearchRange, Setting, settings
from mf_core.config import Head as Head
from mf_core.data.fading import HALF_LIFE
from mf_core.errors import ConfigError

NEVER = 36_500.0
"""Days of a half-life that stand for none in a study, which knows numbers only."""

_LEAST_HALF_LIFE = 1.0


def search_space(
    config: Config,
    head: Head,
    left_alone: frozenset[str] = frozenset(),
    *,
    by_time: bool = False,
) -> dict[str, BaseDistribution]:
    """Return what is searched for the head that `config` sets up, by the name of the setting.

    Args:
        config: the settings as they are.
        head: which head is searched.
        left_alone: names of settings that are not.
        by_time: whether late rows judge: only they tell whether old ones say less.

    Raises:
        ConfigError: the solver has nothing to tune, or nothing that is not `left_alone`.
    """
    known = {setting.name: setting for setting in settings(config)}
    section = config.solver_section(head)
    space: dict[str, BaseDistribution] = {}
    for wanted in config.solver_settings(head).search_ranges():
        setting = known[f"{section}.{wanted.name}"]
        # What is switched off (0 on a logarithmic range) stays off.
        if setting.name not in left_alone and (setting.default or not wanted.log):
            space[setting.name] = _distribution(wanted, setting)
    if head == "ranking" and by_time and HALF_LIFE not in left_alone:
        space[HALF_LIFE] = FloatDistribution(_LEAST_HALF_LIFE, NEVER, log=True)
    if not space:
        raise ConfigError(
            f"nothing of {section} is left to tune: you have set all that is searched there, and "
            "found settings leave that alone. Take some of it out of MF_CONFIG, or search without "
            "applying the result (--no-apply)."
        )
    return space


def _distribution(wanted: SearchRange, setting: Setting) -> BaseDistribution:
    """Return the range widened to the present value, but within the bounds of the setting."""
    schema = setting.schema
    now = setting.default
    least = schema.get("minimum", wanted.low)
    most = schema.get("maximum", wanted.high)
    low = max(min(wanted.low, now), least)
    high = min(max(wanted.high, now), most)

    if schema["type"] == "integer":
        return IntDistribution(int(low), int(high), log=wanted.log)
    return FloatDistribution(low, high, log=wanted.log)
