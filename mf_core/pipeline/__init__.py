"""The steps of a run, in order. A DAG task and an `mf` command call the same function here.

Every step can be repeated: it finds what it needs in its arguments, the warehouse and the artifact
store, and running it again after a kill ends in the same state. `train` and `refit` touch no
database.
"""

from mf_core.pipeline.data import check, check_settings, ingest, split
from mf_core.pipeline.lists import prepare, recommend_shard, verify, write_lists
from mf_core.pipeline.live import publish, rollback
from mf_core.pipeline.models import (
    evaluate,
    gate,
    override,
    record_training,
    refit,
    report_of,
    require_approved,
    require_unpublished,
    train,
)
from mf_core.pipeline.place import Workplace, operating_system_user, workplace
from mf_core.pipeline.pruning import Removed, prune
from mf_core.pipeline.whole import (
    clean_up_after,
    close_run,
    record_failure,
    run_all,
    run_to_readers,
    start_run,
)

__all__ = [
    "Removed",
    "Workplace",
    "check",
    "check_settings",
    "clean_up_after",
    "close_run",
    "evaluate",
    "gate",
    "ingest",
    "operating_system_user",
    "override",
    "prepare",
    "prune",
    "publish",
    "recommend_shard",
    "record_failure",
    "record_training",
    "refit",
    "report_of",
    "require_approved",
    "require_unpublished",
    "rollback",
    "run_all",
    "run_to_readers",
    "split",
    "start_run",
    "train",
    "verify",
    "workplace",
    "write_lists",
]
