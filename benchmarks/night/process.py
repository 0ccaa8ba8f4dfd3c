"""One step in a process of its own: `python -m benchmarks.night.process TASK`, TASK being JSON.

It prints a line of JSON: the seconds of the step, without imports and the process's start, the most
memory that it has held with what it has started, and the record that the step returned.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.night.cases import CASES, write_case
from mf_core import pipeline
from mf_core.capacity import Counts, forecast
from mf_core.config import Config, make_config
from mf_core.data.snapshot import read_snapshot
from mf_core.models.heads import load_models, make_heads
from mf_core.pipeline import Workplace
from mf_core.records import EvalReport, ModelRef, SplitRef
from mf_core.training.found import in_force
from mf_core.training.parent import die_with_parent

Task = dict[str, Any]
KEY = "night"
# Users at a time; which is the fastest depends on the caches.
_BLOCKINGS = (128, 512, 2_048)
_SECONDS_PER_BLOCKING = 1.0


def main() -> None:
    """Run the step that the task names, and print what it took."""
    task: Task = json.loads(sys.argv[1])
    # It is in a session of its own, where nobody would end it.
    die_with_parent(task["parent_pid"])
    config = make_config(task["settings"])
    place = pipeline.workplace(
        task["database"],
        f"file://{task['artifacts']}",
        log=lambda line: print(line, file=sys.stderr),
    )
    before = _peak_mb()
    began = time.perf_counter()
    result = _STEPS[task["step"]](config, place, task)
    seconds = time.perf_counter() - began
    if is_dataclass(result) and not isinstance(result, type):
        result = asdict(result)
    measured = {
        "seconds": seconds,
        "peak_mb": _peak_mb(),
        "idle_mb": before,
        "result": result,
    }
    print(json.dumps(measured), flush=True)


def _peak_mb() -> float:
    """Return the most memory that this process or one that it has started held, in MB."""
    # Not `getrusage` of this process: that starts with what its parent held.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own = int(status["VmHWM"].split()[0]) * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return max(own, children) / 1e6


def _split_of(task: Task) -> SplitRef:
    return SplitRef(**task["split"])


def _model_of(task: Task, name: str = "model") -> ModelRef:
    return ModelRef(**task[name])


def _data(config: Config, place: Workplace, task: Task) -> Any:
    return write_case(CASES[task["case"]], Path(task["folder"]))


def _hash(config: Config, place: Workplace, task: Task) -> Any:
    with open(config.source.uri, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forecast(config: Config, place: Workplace, task: Task) -> Any:
    """Return what the capacity formulas say, in bytes, by step and by kind of disk."""
    # It imports TensorFlow, which no other step may be charged for.
    from mf_core.solvers.forecast import training_memory

    counts = task["counts"]
    wanted = forecast(config, Counts(counts["ratings"], counts["users"], counts["items"]))
    shape = (counts["users"], counts["items"])
    n_train = round((1 - config.split.test_fraction) * counts["ratings"])
    return {
        "memory": {
            **wanted.memory,
            "train": training_memory(config, n_train, shape).host,
            "refit": training_memory(config, counts["ratings"], shape).host,
        },
        "disk": {"artifacts": wanted.artifacts, "growth": wanted.growth},
    }


def _ingest(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.ingest(config, place)


def _check(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.check(config, place)


def _split(config: Config, place: Workplace, task: Task) -> Any:
    pipeline.start_run(place, KEY)
    return pipeline.split(config, place, KEY)


def _train(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.train(config, place.artifact_root, _split_of(task), place.log)


def _evaluate(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.evaluate(config, place, _split_of(task), _model_of(task))


def _gate(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.gate(config, place, EvalReport(**task["report"]))


def _refit(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.refit(config, place.artifact_root, _split_of(task), _model_of(task), place.log)


def _prepare(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.prepare(
        config, place, _split_of(task), _model_of(task), _model_of(task, "refitted")
    )


def _recommend(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.recommend_shard(config, place, _model_of(task, "refitted"), task["shard"])


def _verify(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.verify(config, place, _model_of(task, "refitted"))


def _publish(config: Config, place: Workplace, task: Task) -> Any:
    return pipeline.publish(config, place, _split_of(task), EvalReport(**task["report"]))


def _lists(config: Config, place: Workplace, task: Task) -> Any:
    """Make every user's list as the recommendations do, and write none; time only that."""
    split = _split_of(task)
    refitted = _model_of(task, "refitted")
    config = in_force(config, refitted)
    snapshot = read_snapshot(split.uri, split.sha256)
    heads = make_heads(config, snapshot, load_models(refitted), snapshot.all_ratings())
    everybody = np.arange(len(snapshot.users), dtype=np.int32)
    n = config.recommend.top_n + config.recommend.reserve

    began = time.perf_counter()
    n_users = sum(
        len(tile.user) for tile in heads.lists.top(everybody, n, config.recommend.tile_mib)
    )
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "users": n_users,
        "items": len(snapshot.items),
        "width": heads.lists.ordering.user_factors.shape[1],
    }


def _gemm(config: Config, place: Workplace, task: Task) -> Any:
    """Multiply matrices of the lists' shape by the fastest of a few blockings; time only that."""
    rng = np.random.default_rng(0)
    users = rng.normal(size=(task["users"], task["width"])).astype(np.float32)
    items = rng.normal(size=(task["items"], task["width"])).astype(np.float32).T.copy()
    pace = {rows: _pace(users, items, rows) for rows in _BLOCKINGS}
    fastest = min(pace, key=lambda rows: pace[rows])
    return {"seconds": _multiplied(users, items, fastest), "blocking": fastest}


def _pace(users: np.ndarray, items: np.ndarray, rows: int) -> float:
    """Return the seconds per user of a blocking, over the first part of the users."""
    least = min(len(users), rows)
    once = _multiplied(users[:least], items, rows)
    times = max(1, min(len(users) // least, round(_SECONDS_PER_BLOCKING / once)))
    n_users = times * least
    return _multiplied(users[:n_users], items, rows) / n_users


def _multiplied(users: np.ndarray, items: np.ndarray, rows: int) -> float:
    """Return the seconds that all products take, `rows` users at a time."""
    scores = np.empty((rows, items.shape[1]), np.float32)
    began = time.perf_counter()
    for start in range(0, len(users), rows):
        tile = users[start : start + rows]
        np.matmul(tile, items, out=scores[: len(tile)])
    return time.perf_counter() - began


def _top_n(config: Config, place: Workplace, task: Task) -> Any:
    from benchmarks.topn import measure

    return measure(**task["shape"])


def _publishing(config: Config, place: Workplace, task: Task) -> Any:
    from benchmarks.publishing import measure

    return measure(**task["shape"], folder=Path(task["folder"]))


_STEPS: dict[str, Callable[[Config, Workplace, Task], Any]] = {
    "data": _data,
    "hash": _hash,
    "forecast": _forecast,
    "ingest": _ingest,
    "check": _check,
    "split": _split,
    "train": _train,
    "evaluate": _evaluate,
    "gate": _gate,
    "refit": _refit,
    "prepare": _prepare,
    "recommend": _recommend,
    "verify": _verify,
    "publish": _publish,
    "lists": _lists,
    "gemm": _gemm,
    "top_n": _top_n,
    "publishing": _publishing,
}


if __name__ == "__main__":
    main()
