"""What a run will need of memory, disk and Postgres, from counts and settings alone.

The formulas stand in docs/scale.md, with what they say of 100,000 to 10 billion ratings. Their
multiples were measured by `python -m benchmarks night`, which holds every prediction against what
the steps really took. What a training holds is predicted where it runs
(`mf_core.solvers.forecast`).
"""

from dataclasses import dataclass
from pathlib import Path

from mf_core import machine
from mf_core.config import Config
from mf_core.judging.item_item import dense_bytes

_MIB = 1 << 20
_GIB = 1 << 30

# A process with the libraries that the steps import, before any rating.
_PROCESS = 180 * _MIB
# One rating: while it is split; as read from a snapshot, with the order of each user's items.
_SPLIT_RATING = 78
_READ_RATING = 60
# A block of ratings on the way from Postgres, whatever their number.
_SPLIT_CHUNKS = 16 * _MIB
# The ids of a user or an item, as Python's texts and their look-up, once and in each head.
_ID = 110
# Copies of a head's floats, at the most: as a file, as read, in the snapshot's rows, and joined.
_COPIES_OF_MODEL = 3
_FLOAT = 4
# Resamples of the users that are counted at a time: drawn, numbered, counted and as floats.
_RESAMPLED_AT_A_TIME = 1 << 24
_RESAMPLED_BYTES = 32
# Copies of a tile of scores, and of its rows as texts.
_COPIES_OF_TILE = 2
# A rating in the temporary folder as text, and in a snapshot as Parquet.
_SPOOLED = 40
_STORED_RATING = 9
_STORED_ID = 6
# A row of a list with its share of both indexes; and of the popular and the similar items.
_LIST_ROW = 176
_ITEM_ROW = 113
# Of all time; those of the last weeks are short beside it.
_POPULAR_LISTS = 1


@dataclass(frozen=True)
class Counts:
    """How much there is to work on: ratings, and users and items that have one."""

    n_ratings: int
    n_users: int
    n_items: int

    @property
    def n_rows(self) -> int:
        """Users and items together."""
        return self.n_users + self.n_items


@dataclass(frozen=True)
class Forecast:
    """Bytes.

    Attributes:
        memory: the most that each step's process holds, by the step's name.
        temporary: in the temporary folder, at the most.
        artifacts: that the run adds to the artifact store.
        growth: that the run adds to Postgres: its lists and their indexes.
        kept: what Postgres holds once as many versions are kept as the settings say.
    """

    memory: dict[str, int]
    temporary: int
    artifacts: int
    growth: int
    kept: int


def forecast(config: Config, counts: Counts, free_memory: int | None = None) -> Forecast:
    """Return what a run of `counts` will need with the settings `config`.

    Args:
        config: the settings.
        counts: of ratings, users and items.
        free_memory: bytes of memory where it will run, which one step takes less of where it is
            short; None: not known.
    """
    growth = _lists_growth(config, counts)
    versions = config.publish.keep_versions + config.publish.keep_weeks
    return Forecast(
        memory={
            "split": _split_memory(counts),
            "evaluate": _evaluate_memory(config, counts, free_memory),
            "prepare": _prepare_memory(config, counts),
            "recommend": _recommend_memory(config, counts),
        },
        temporary=_SPOOLED * counts.n_ratings,
        artifacts=_snapshot_bytes(counts) + _models_bytes(config, counts),
        growth=growth,
        kept=growth * versions,
    )


def _split_memory(counts: Counts) -> int:
    ids = _ID * counts.n_rows
    return _PROCESS + _SPLIT_CHUNKS + _SPLIT_RATING * counts.n_ratings + ids


def _model_floats(config: Config, counts: Counts) -> int:
    """Return the float32 that all heads together hold of a user or an item."""
    shape = (counts.n_users, counts.n_items)
    return sum(config.solver_settings(head).floats_per_row(shape) for head in config.heads())


def _read_memory(config: Config, counts: Counts, models: int = 1) -> int:
    """Return what a process holds that makes lists: ratings, ids, and so many models."""
    ids = _ID * counts.n_rows * (1 + models * len(config.heads()))
    floats = _COPIES_OF_MODEL * models * _model_floats(config, counts) * counts.n_rows
    return _PROCESS + _READ_RATING * counts.n_ratings + ids + _FLOAT * floats


def _evaluate_memory(config: Config, counts: Counts, free_memory: int | None) -> int:
    resampled = min(config.gate.bootstrap_samples * counts.n_users, _RESAMPLED_AT_A_TIME)
    baseline = 0
    if config.gate.require_item_baseline != "off":
        baseline = dense_bytes(counts.n_users, counts.n_items)
        if free_memory is not None:
            baseline = min(baseline, free_memory // 2)
    # One after the other: lists, the baseline's fit, and the resamples.
    tile = _tile_bytes(config, counts)
    return _read_memory(config, counts) + max(tile, baseline, _RESAMPLED_BYTES * resampled)


def _prepare_memory(config: Config, counts: Counts) -> int:
    models = 2 if config.publish.refit else 1
    return _read_memory(config, counts, models) + _tile_bytes(config, counts)


def _recommend_memory(config: Config, counts: Counts) -> int:
    return _read_memory(config, counts) + _tile_bytes(config, counts)


def _tile_bytes(config: Config, counts: Counts) -> int:
    """Return what a tile of scores takes: one user's scores at least."""
    largest = max(config.recommend.tile_mib * _MIB, 14 * counts.n_items)
    whole = 14 * counts.n_users * counts.n_items
    return _COPIES_OF_TILE * min(largest, whole)


def _snapshot_bytes(counts: Counts) -> int:
    return _STORED_RATING * counts.n_ratings + _STORED_ID * counts.n_rows


def _models_bytes(config: Config, counts: Counts) -> int:
    """Return what the evaluated models and the refit take in the artifact store."""
    stages = 2 if config.publish.refit else 1
    ids = _STORED_ID * len(config.heads())
    return stages * counts.n_rows * (_FLOAT * _model_floats(config, counts) + ids)


def _lists_growth(config: Config, counts: Counts) -> int:
    """Return what the rows of one version take in Postgres, indexes included."""
    depth = min(config.recommend.top_n + config.recommend.reserve, counts.n_items)
    per_item = _POPULAR_LISTS + min(config.recommend.similar_items, counts.n_items - 1)
    return _LIST_ROW * counts.n_users * depth + _ITEM_ROW * counts.n_items * per_item


@dataclass(frozen=True)
class Shortage:
    """What there is too little of, in words, and the bytes that are needed and free."""

    what: str
    needed: int
    free: int

    def sentence(self) -> str:
        """Return it in words."""
        needed, free = (f"{n / _GIB:.1f} GiB" for n in (self.needed, self.free))
        return f"{self.what} needs about {needed}, and {free} is free"


def shortages(wanted: Forecast, temporary: Path, artifacts: Path | None) -> list[Shortage]:
    """Return what this machine has too little of for a run; none where all of it fits.

    Args:
        wanted: what the run needs.
        temporary: the temporary folder.
        artifacts: folder of the artifact store; None where it lies on no disk of this machine.
    """
    step = max(wanted.memory, key=lambda name: wanted.memory[name])
    looked_at = [Shortage(f"step `{step}`, memory:", wanted.memory[step], machine.free_memory())]
    spool = Shortage(
        f"the temporary folder {temporary}", wanted.temporary, machine.free_disk(temporary)
    )
    store = wanted.artifacts
    if artifacts is None:
        looked_at.append(spool)
    elif machine.same_disk(temporary, artifacts):
        both = f"the disk of {artifacts} and of the temporary folder"
        looked_at.append(Shortage(both, spool.needed + store, spool.free))
    else:
        looked_at += [
            spool,
            Shortage(f"the artifact store {artifacts}", store, machine.free_disk(artifacts)),
        ]
    return [found for found in looked_at if found.needed > found.free]
