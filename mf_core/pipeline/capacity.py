"""Whether this machine has what a run will need, asked before anything is trained."""

import tempfile
from pathlib import Path

from mf_core import machine
from mf_core.capacity import Counts, Forecast, forecast, shortages
from mf_core.config import Config
from mf_core.data.store import is_disk, store_path
from mf_core.errors import CapacityError
from mf_core.pipeline.place import Workplace
from mf_core.records import QualityReport

_GIB = 1 << 30


def require_capacity(config: Config, place: Workplace, report: QualityReport) -> None:
    """Say what the run will need, and refuse it where this machine has less (`run.capacity`).

    What the training holds is looked at where it runs, before it fits anything.

    Raises:
        CapacityError: memory or disk will not do.
    """
    if config.run.capacity == "off":
        return
    counts = Counts(report.n_ratings, report.n_users, report.n_items)
    wanted = forecast(config, counts, machine.free_memory())
    place.log(_sentence(wanted))

    store = store_path(place.artifact_root)
    artifacts = Path(store.path) if is_disk(store) else None
    short = shortages(wanted, Path(tempfile.gettempdir()), artifacts)
    if not short:
        return
    said = "; ".join(found.sentence() for found in short)
    if config.run.capacity == "warn":
        place.log(f"WARNING: {said} (run.capacity is warn, so the run goes on)")
        return
    raise CapacityError(
        f"a run of {counts.n_ratings:,} ratings of {counts.n_users:,} users on "
        f"{counts.n_items:,} items does not fit here: {said}. Nothing was trained. Give the worker "
        "more, or keep less: rating_head and ranking_head factors, recommend.tile_mib, "
        "gate.require_item_baseline=off; run.capacity=warn goes on all the same. See "
        "docs/scale.md#capacity."
    )


def _sentence(wanted: Forecast) -> str:
    """Return what a run will need, in one line for people."""
    step = max(wanted.memory, key=lambda name: wanted.memory[name])
    return (
        f"capacity: up to {wanted.memory[step] / _GIB:.1f} GiB of memory (step {step}), "
        f"{wanted.temporary / _GIB:.1f} GiB of temporary files, {wanted.artifacts / _GIB:.1f} GiB "
        f"of artifacts; Postgres grows by {wanted.growth / _GIB:.1f} GiB, to "
        f"{wanted.kept / _GIB:.1f} GiB of lists once all versions are kept"
    )
