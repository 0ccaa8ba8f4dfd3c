"""`mf capacity`: what a run of so many ratings would need, before there are any."""

import click

from mf_core.cli.options import json_option, settings_options, show
from mf_core.config import Config

_COUNT = click.IntRange(min=1)


@click.command()
@click.option("--ratings", "n_ratings", type=_COUNT, required=True)
@click.option("--users", "n_users", type=_COUNT, required=True)
@click.option("--items", "n_items", type=_COUNT, required=True)
@json_option
@settings_options
def capacity(config: Config, n_ratings: int, n_users: int, n_items: int, as_json: bool) -> None:
    """Say in GiB what a run of so many ratings, users and items would need with these settings.

    What the training needs takes the extra `train`.
    """
    from mf_core.capacity import Counts, forecast

    wanted = forecast(config, Counts(n_ratings, n_users, n_items))
    in_bytes = {f"memory_{step}": size for step, size in wanted.memory.items()}
    in_bytes |= _of_training(config, n_ratings, (n_users, n_items))
    in_bytes |= {
        "temporary_files": wanted.temporary,
        "artifacts_of_a_run": wanted.artifacts,
        "postgres_grows_by": wanted.growth,
        "postgres_lists_kept": wanted.kept,
    }
    show({name: round(size / (1 << 30), 3) for name, size in in_bytes.items()}, as_json)


def _of_training(config: Config, n_ratings: int, shape: tuple[int, int]) -> dict[str, int]:
    """Return what fitting to the training side, and to all ratings, needs; on a GPU, of it too."""
    try:
        from mf_core.solvers.forecast import training_memory
    except ModuleNotFoundError:
        return {}
    share = 1 - config.split.test_fraction
    fitted = training_memory(config, round(share * n_ratings), shape)
    refitted = training_memory(config, n_ratings, shape)
    return {
        "memory_train": fitted.host,
        "memory_refit": refitted.host,
        "gpu_memory_refit": refitted.device,
    }


COMMANDS = (capacity,)
