"""The step that lets readers see a version, what comes after it, and the way back."""

from collections.abc import Iterator
from contextlib import contextmanager

from mf_core.config import Config
from mf_core.errors import PromotionRaceError
from mf_core.pipeline.models import evaluate, gate
from mf_core.pipeline.place import Workplace
from mf_core.pipeline.pruning import prune
from mf_core.publishing import publish as publishing
from mf_core.publishing.retire import retire
from mf_core.records import (
    EvalReport,
    PublishReport,
    RollbackReport,
    SplitRef,
)
from mf_core.training.manifest import seal
from mf_core.warehouse import (
    history,
    lineage,
    retention,
    states,
    transaction,
    verdicts,
    versions,
)

_PROMOTION_ATTEMPTS = 3


def publish(config: Config, place: Workplace, split: SplitRef, report: EvalReport) -> PublishReport:
    """Attach the version's table, let it go live, and retire old versions.

    If another run went live since the verdict, the candidate is judged again, against that one.
    Nothing that fails after it went live fails the step: that is left for the next publication.

    Raises:
        PromotionRaceError: other runs went live several times in a row.
        GateError: the second judgement refused.
        StateError: the version was not approved.
        VerificationError: its table was not verified, or is gone.
    """
    version = split.model_version
    with transaction(place.engine) as connection:
        versions.lock(connection, version)
        done_before = history.was_promoted(connection, version)
        if not done_before:
            # Evaluated only: it was approved, and killed while it was judged again.
            states.require(connection, version, ("approved", "evaluated"), "go live")
            publishing.attach(connection, version)
    with transaction(place.engine) as connection:
        users, rows = publishing.size_of(connection, version)
        previous = history.replaced_by(connection, version)
    if not done_before:
        publishing.wait_for_planned_readers(place.engine)
        report, previous = _promote(config, place, split, report)
    retired = clean_up(config, place)
    published = PublishReport(
        model_version=version,
        previous_version=previous,
        users=users,
        rows=rows,
        retired_versions=",".join(map(str, retired)),
        rmse=report.rmse,
        ndcg=report.ndcg,
    )
    place.log(published.sentence())
    return published


def clean_up(config: Config, place: Workplace) -> list[int]:
    """Remove what nothing needs any more; return the versions whose lists are gone.

    A publication ends with it, and so does a run that did not come so far. Whatever fails here is
    left for the next run: the outcome of this one is decided by now.
    """
    retired: list[int] = []
    with _next_time(place, "the models of published versions are not sealed"):
        _seal_published(place)
    with _next_time(place, "old versions are not retired"):
        retired = retire(place.engine, config.publish, place.log)
    with _next_time(place, "what is needed no more is not removed"):
        prune(config, place)
    return retired


@contextmanager
def _next_time(place: Workplace, what: str) -> Iterator[None]:
    """Put into the log what could not be done now."""
    try:
        yield
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        place.log(f"{what} yet; the next run does it: {type(error).__name__}: {said[0]}")


def _seal_published(place: Workplace) -> None:
    """Mark the models of all versions that were ever published, those of older releases too."""
    with transaction(place.engine) as connection:
        published = retention.published_with_artifacts(connection)
    for version in published:
        seal(place.artifact_root, version)


def _promote(
    config: Config, place: Workplace, split: SplitRef, report: EvalReport
) -> tuple[EvalReport, int | None]:
    """Let an attached version go live; return its figures, and the version that was live before."""
    version = split.model_version
    with transaction(place.engine) as connection:
        killed_in_judgement = states.is_in(connection, version, ("evaluated",))
    if killed_in_judgement:
        report = _judge_again(config, place, split)
    for attempt in range(1, _PROMOTION_ATTEMPTS + 1):
        try:
            return report, _swap(place, version)
        except PromotionRaceError as race:
            if attempt == _PROMOTION_ATTEMPTS:
                raise
            place.log(f"{race} Judging again.")
            report = _judge_again(config, place, split)
    raise AssertionError("unreachable")


def _swap(place: Workplace, version: int) -> int | None:
    """Let a version take the place of the one it was judged against; return that one."""
    with transaction(place.engine) as connection:
        versions.lock_live(connection)
        # By the same step, running twice: its first process was taken for dead.
        if history.was_promoted(connection, version):
            return history.replaced_by(connection, version)
        champion = history.judged_against(connection, version)
        approval = verdicts.approval_of(connection, version)
        publishing.go_live(connection, version, champion, by=place.actor, approval=approval)
    return champion


def _judge_again(config: Config, place: Workplace, split: SplitRef) -> EvalReport:
    with transaction(place.engine) as connection:
        model = lineage.load_model_ref(connection, split.model_version, "evaluated")
    report = evaluate(config, place, split, model)
    gate(config, place, report)
    return report


def rollback(place: Workplace, model_version: int | None = None) -> RollbackReport:
    """Let readers see an earlier version again; None: the one before.

    Raises ConfigError or PromotionRaceError.
    """
    report = publishing.rollback(place.engine, model_version, place.actor)
    place.log(f"rollback: {report.sentence()}, by {report.rolled_back_by}")
    return report
