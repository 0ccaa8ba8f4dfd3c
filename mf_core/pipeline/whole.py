"""A run as a whole: on record from its start to its end, and all steps in one process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from traceback import walk_tb

from mf_core.config import Config
from mf_core.errors import GateError, MFError
from mf_core.pipeline.data import check, check_settings, ingest, split
from mf_core.pipeline.lists import prepare, recommend_shard, verify, write_lists
from mf_core.pipeline.live import clean_up, publish
from mf_core.pipeline.models import evaluate, gate, refit, train
from mf_core.pipeline.place import Workplace
from mf_core.records import (
    EvalReport,
    ModelRef,
    PublishReport,
    SplitRef,
    Verdict,
)
from mf_core.redaction import without_secrets
from mf_core.warehouse import (
    runs,
    transaction,
    versions,
)


def start_run(place: Workplace, run_key: str) -> None:
    """Put on record that a run starts, before it does anything."""
    with transaction(place.engine) as connection:
        runs.begin(connection, run_key, by=place.actor)


def record_failure(place: Workplace, run_key: str, step: str, error: BaseException) -> None:
    """Put on record which step ended a run, and what it said."""
    with transaction(place.engine) as connection:
        runs.fail(
            connection,
            run_key,
            by=place.actor,
            step=step,
            message=without_secrets(_message(error)),
            refused=isinstance(error, GateError),
        )


def _message(error: BaseException) -> str:
    """Return what an error says; the class of one that was not raised on purpose comes first."""
    if isinstance(error, MFError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted from the keyboard"
    if isinstance(error, SystemExit):
        return f"ended with status {error.code}, as a signal asked for"
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def close_run(place: Workplace, run_key: str, failed_steps: Sequence[str] = ()) -> int | None:
    """Put on record how a run ended; mark the version of one that ended on the way as stopped.

    Returns the version, None if there is none to mark. `failed_steps` are those that failed, the
    first one first.
    """
    with transaction(place.engine) as connection:
        stopped = versions.stop_run(connection, run_key)
        outcome = runs.end(connection, run_key, failed_steps)
    words = (outcome or "not on record").replace("_", " ")
    if stopped is not None:
        words += f"; version {stopped} is stopped, since it could not go live"
    place.log(f"close: run {run_key} ended: {words}")
    return stopped


def clean_up_after(config: Config, place: Workplace, run_key: str) -> None:
    """Remove what nothing needs any more, after a run that published nothing.

    A publication has done so by itself. Nights that are refused or fail, one after the other, would
    otherwise leave their tables, models, snapshots and rejected rows for ever.
    """
    with transaction(place.engine) as connection:
        outcome = runs.outcome_of(connection, run_key)
    if outcome != "published":
        clean_up(config, place)


def run_all(config: Config, place: Workplace, run_key: str) -> PublishReport | Verdict | SplitRef:
    """Run every step in this process.

    What comes back is how far the run went: nothing new, a dry run, or published.
    """
    with _on_record(config, place, run_key):
        check_settings(config, place)
        ingest(config, place, run_key)
        check(config, place)
        split_ref = split(config, place, run_key)
        if not split_ref.news:
            return split_ref
        model = train(
            config,
            place.artifact_root,
            split_ref,
            log=place.log,
            progress=place.progress,
        )
        report = evaluate(config, place, split_ref, model)
        verdict = gate(config, place, report)
        if config.run.dry_run:
            return verdict
        return run_to_readers(config, place, split_ref, model=model, report=report)


@contextmanager
def _on_record(config: Config, place: Workplace, run_key: str) -> Iterator[None]:
    """Put on record that a run starts and how it ends; its own error, or success, comes first."""
    start_run(place, run_key)
    failed: list[str] = []
    try:
        yield
    except BaseException as error:
        failed.append(_step_of(error))
        with _told_only(place, run_key):
            record_failure(place, run_key, failed[0], error)
        raise
    finally:
        with _told_only(place, run_key):
            close_run(place, run_key, failed)
            clean_up_after(config, place, run_key)


@contextmanager
def _told_only(place: Workplace, run_key: str) -> Iterator[None]:
    """Log an error instead of raising it: a record that can't be kept changes no run's outcome."""
    try:
        yield
    except Exception as error:
        place.log(f"the end of run {run_key} could not be put on record: {error}")


_STEPS = {
    check_settings.__code__: "start",
    ingest.__code__: "ingest",
    check.__code__: "check",
    split.__code__: "split",
    train.__code__: "train",
    evaluate.__code__: "evaluate",
    gate.__code__: "gate",
    refit.__code__: "refit",
    prepare.__code__: "prepare",
    recommend_shard.__code__: "recommend",
    verify.__code__: "verify",
    publish.__code__: "publish",
}


def _step_of(error: BaseException) -> str:
    """Return the name of the step that an error came out of; `run`: it was between two steps."""
    # From the outside in: a publication that judges again is still the step `publish`.
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_code in _STEPS:
            return _STEPS[frame.f_code]
    return "run"


def run_to_readers(
    config: Config, place: Workplace, split_ref: SplitRef, model: ModelRef, report: EvalReport
) -> PublishReport:
    """Run the steps after an approval: refit, recommend, verify, publish."""
    write_lists(config, place, split_ref, model)
    return publish(config, place, split_ref, report)
