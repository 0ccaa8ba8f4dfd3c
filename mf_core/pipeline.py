"""The steps of a run, in order. A DAG task and an `mf` command call the same function here.

Every step can be repeated: it finds what it needs in its arguments, the warehouse and the artifact
store, and running it again after a kill ends in the same state. `train` and `refit` touch no
database.
"""

import getpass
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from traceback import walk_tb
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import Config
from mf_core.data.artifacts import remove_artifact, sweep
from mf_core.data.snapshot import Snapshot, content_hash, read_snapshot, write_snapshot
from mf_core.data.split import knows_sides, split_id, take_snapshot
from mf_core.errors import ConfigError, GateError, MFError, PromotionRaceError, StateError
from mf_core.figures import Rule, headline
from mf_core.intake import ingest as intake
from mf_core.intake import quality
from mf_core.judging import gate as rules
from mf_core.judging.evaluate import evaluate as measure
from mf_core.judging.refit import judge_refit
from mf_core.judging.rivals import load_rivals
from mf_core.models.heads import Heads, Models, load_kept_samples, load_models, make_heads
from mf_core.models.samples import PosteriorSamples
from mf_core.publishing import publish as publishing
from mf_core.publishing import recommend as lists
from mf_core.publishing.retire import retire
from mf_core.records import (
    EvalReport,
    IngestReport,
    ModelRef,
    PublishReport,
    QualityReport,
    RollbackReport,
    SplitRef,
    Verdict,
)
from mf_core.redaction import without_secrets
from mf_core.sources.reach import Reach
from mf_core.training.launcher import ShowProgress, run_trainer
from mf_core.training.manifest import Manifest, seal, stored_versions
from mf_core.training.warm_start import find_start
from mf_core.warehouse import (
    database_engine,
    lineage,
    readers,
    runs,
    transaction,
    verdicts,
    versions,
    warehouse_url,
)

_PROMOTION_ATTEMPTS = 3
Log = Callable[[str], None]


@dataclass(frozen=True)
class Workplace:
    """Where a run works, and for whom.

    Attributes:
        engine: the warehouse.
        artifact_root: URI under which snapshots and models lie.
        log: where lines for people go.
        actor: who does it, as it is put on record.
        progress: called with how far a fit is; None: that is a line of the log as well.
        reach: what its sources may reach; None: anything, as they are the operator's.
    """

    engine: Engine
    artifact_root: str
    log: Log = print
    actor: str = "mf"
    progress: ShowProgress | None = None
    reach: Reach | None = None


def workplace(
    database_url: str | None = None,
    artifact_root: str | None = None,
    log: Log = print,
    actor: str | None = None,
    *,
    progress: ShowProgress | None = None,
    reach: Reach | None = None,
) -> Workplace:
    """Return the workplace of the given places, or of MF_DATABASE_URL and MF_ARTIFACT_ROOT.

    Without an `actor` it is the user of the operating system.

    Raises:
        ConfigError: no database is named, or it is not Postgres.
    """
    here = (Path.cwd() / "var" / "artifacts").as_uri()
    root = artifact_root or os.environ.get("MF_ARTIFACT_ROOT") or here
    url = database_url or warehouse_url(os.environ)
    return Workplace(
        engine=database_engine(url),
        artifact_root=root.rstrip("/"),
        log=log,
        actor=actor or operating_system_user(),
        progress=progress,
        reach=reach,
    )


def operating_system_user() -> str:
    """Return the name of the user who runs this process, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def check_settings(config: Config, place: Workplace) -> None:
    """Refuse settings that are wrong for this warehouse; `Config` refuses what is wrong anywhere.

    A run does so before any work.

    Raises:
        ConfigError: the message names the settings.
    """
    source = config.source
    if source.side_column and source.test_uri:
        raise ConfigError(
            "source.side_column and source.test_uri both say which ratings are test. "
            "Empty one of them."
        )
    if config.split.protocol != "given" or source.side_column or source.test_uri:
        return
    # Ratings that were loaded with their sides, by an earlier run, will do.
    with transaction(place.engine) as connection:
        if not knows_sides(connection):
            raise ConfigError(
                "split.protocol is given, but nothing says which ratings are test: "
                "source.side_column and source.test_uri are empty, and no rating in the warehouse "
                "has a side. Set one of the two, or another split.protocol."
            )


def ingest(config: Config, place: Workplace) -> IngestReport:
    """Load the source into `mf.ratings`. Raises ConfigError, InputError or DatabaseError."""
    return intake.ingest(place.engine, config, datetime.now(UTC), place.log, reach=place.reach)


def check(config: Config, place: Workplace) -> QualityReport:
    """Refuse ratings that are not fit to train on. Raises QualityError."""
    report = quality.check_ratings(place.engine, config)
    place.log(report.sentence())
    return report


def split(config: Config, place: Workplace, run_key: str) -> SplitRef:
    """Freeze `mf.ratings` as a train/test snapshot and open the run's model version.

    Raises:
        QualityError: one side is empty.
        ArtifactStoreError: the snapshot can't be written.
    """
    with transaction(place.engine, isolation_level="REPEATABLE READ") as connection:
        with_attributes = config.rating_head.uses_attributes()
        snapshot = take_snapshot(connection, config.split, with_attributes=with_attributes)
        taken_at = connection.execute(sa.select(sa.func.now())).scalar_one()
    stored = _store(place, config, snapshot)
    sweep(place.artifact_root)
    _describe(place, config, snapshot, stored)

    with transaction(place.engine) as connection:
        lineage.save_snapshot(connection, stored)
        live = versions.live_version(connection)
        has_news = versions.has_news(connection, config, stored["snapshot_id"])
        nothing_new = live is not None and not has_news and not config.run.force
        if nothing_new:
            runs.find_nothing_new(connection, run_key)
    split_ref = {name: value for name, value in stored.items() if name != "protocol"}
    if live is not None and nothing_new:
        unchanged = SplitRef(model_version=live, news=False, **split_ref)
        place.log(unchanged.sentence())
        return unchanged

    start = find_start(config, place.engine, stored["split_id"], place.log)
    with transaction(place.engine) as connection:
        version = versions.begin(
            connection,
            config,
            run_key=run_key,
            snapshot_id=stored["snapshot_id"],
            split_id=stored["split_id"],
            taken_at=taken_at,
            started_from=start.model_version if start else None,
            attached=publishing.attached_versions(connection),
        )
    begun = SplitRef(model_version=version, news=True, **split_ref, start=start)
    place.log(begun.sentence())
    return begun


def _store(place: Workplace, config: Config, snapshot: Snapshot) -> dict[str, Any]:
    """Write the snapshot and return its row of `mf.snapshots`."""
    split = split_id(config.split)
    snapshot_id = f"{split}-{content_hash(snapshot)[:16]}"
    uri = f"{place.artifact_root}/snapshots/{snapshot_id}"
    metadata = {
        "snapshot_id": snapshot_id,
        "split_id": split,
        "split": config.split.model_dump(mode="json"),
    }
    warm_users, warm_items = snapshot.warm()
    rated_users, rated_items = snapshot.rated()
    warm_test = warm_users[snapshot.test.user] & warm_items[snapshot.test.item]
    return {
        "snapshot_id": snapshot_id,
        "split_id": split,
        "uri": uri,
        "sha256": write_snapshot(snapshot, uri, metadata),
        "protocol": config.split.protocol,
        "n_train": len(snapshot.train),
        "n_test": len(snapshot.test),
        "n_users": int(rated_users.sum()),
        "n_items": int(rated_items.sum()),
        "cold_users": int((rated_users & ~warm_users).sum()),
        "cold_items": int((rated_items & ~warm_items).sum()),
        "unrated_users": int((~rated_users).sum()),
        "unrated_items": int((~rated_items).sum()),
        "cold_test_ratings": int((~warm_test).sum()),
    }


def _describe(place: Workplace, config: Config, snapshot: Snapshot, stored: dict[str, Any]) -> None:
    place.log(
        f"snapshot: {len(snapshot.train):,} training and {len(snapshot.test):,} test ratings "
        f"({config.split.protocol})"
    )
    if snapshot.attributes:
        known_users = sum(text is not None for text in snapshot.attributes.user)
        known_items = sum(text is not None for text in snapshot.attributes.item)
        place.log(
            f"attributes of {known_users:,} users and {known_items:,} items, "
            f"{stored['unrated_users']:,} and {stored['unrated_items']:,} of them without a rating"
        )


def train(
    config: Config,
    artifact_root: str,
    split: SplitRef,
    log: Log = print,
    progress: ShowProgress | None = None,
) -> ModelRef:
    """Fit both heads on the training rows, in a process of its own. Raises TrainingError."""
    manifest = Manifest.of(
        config,
        split,
        "evaluated",
        artifact_root,
        parent_pid=os.getpid(),
        start=split.start,
    )
    model = run_trainer(manifest, log, progress)
    log(model.sentence())
    return model


def refit(
    config: Config,
    artifact_root: str,
    split: SplitRef,
    model: ModelRef,
    log: Log = print,
    *,
    progress: ShowProgress | None = None,
) -> ModelRef:
    """Fit both heads on all ratings, for as many iterations as the evaluated fit ended with.

    After a warm start those are few, so the refit then starts from tonight's evaluated model: it
    has taken tonight's news in, and only the held-out ratings are new to it. A refit has seen test
    rows, so nothing is ever started from one.

    With `publish.refit` off, the evaluated model itself is what gets published.

    Raises:
        TrainingError: training failed.
    """
    if not config.publish.refit:
        log("refit: none (publish.refit is off); the evaluated model is what gets published")
        return model
    manifest = Manifest.of(
        config,
        split,
        "refit",
        artifact_root,
        parent_pid=os.getpid(),
        iterations={"rating": model.rating_iterations, "ranking": model.ranking_iterations},
        start=None if model.warm_started_from is None else model.as_start(),
    )
    refitted = run_trainer(manifest, log, progress)
    log(refitted.sentence())
    return refitted


def require_unpublished(place: Workplace, model_version: int) -> None:
    """Make sure that a version may still be worked on. Raises StateError or ConfigError."""
    with transaction(place.engine) as connection:
        versions.require(connection, model_version, versions.NOT_PUBLISHED, "be made again")


def require_approved(place: Workplace, model_version: int) -> None:
    """Make sure that a version may go live. Raises StateError or ConfigError."""
    with transaction(place.engine) as connection:
        versions.require(connection, model_version, ("approved",), "get new lists")


def record_training(place: Workplace, split: SplitRef, model: ModelRef) -> None:
    """Put on record where the evaluated models lie. Raises StateError for a published version."""
    with transaction(place.engine) as connection:
        versions.record_fit(connection, model)
        lineage.save_artifacts(connection, model, split.split_id)


def evaluate(config: Config, place: Workplace, split: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, its baselines and its rivals on the test rows; store every figure.

    A rival whose artifacts are gone or damaged has no figures, and so the gate refuses.

    Raises:
        StateError: the version was published: it is not judged again.
    """
    version = split.model_version
    require_unpublished(place, version)
    record_training(place, split, model)
    snapshot = read_snapshot(split.uri, split.sha256)
    samples = load_kept_samples(model, snapshot)

    # The lists of a judge know the training side only; the test side is what they are judged by.
    candidate = make_heads(config, snapshot, load_models(model), snapshot.train, samples=samples)
    with transaction(place.engine) as connection:
        champion_version = versions.live_version(connection)
        recent = versions.recent_versions(connection, config.gate.recent_days, excluding=version)

    wanted = {number for number in (*recent, champion_version) if number is not None}
    wanted.discard(version)
    rivals = load_rivals(
        config, place.engine, snapshot, split=split, versions=wanted, log=place.log
    )
    champion = rivals.get(champion_version) if champion_version is not None else None
    recent_rivals = [rivals[number] for number in recent if number in rivals]
    figures = measure(
        config,
        snapshot,
        candidate,
        champion=champion,
        recent=recent_rivals,
    )

    with transaction(place.engine) as connection:
        versions.move(connection, version, "evaluated", champion_version=champion_version)
        verdicts.save_figures(connection, split.snapshot_id, version, figures)
    report = headline(version, champion_version, figures, config.gate.cutoff)
    place.log(
        f"evaluate: version {version} has test RMSE {report.rmse:.4f} "
        f"(biases only {report.baseline_rmse:.4f}), "
        f"NDCG@{config.gate.cutoff} {report.ndcg:.4f} (popularity {report.popularity_ndcg:.4f}), "
        f"champion {champion_version}"
    )
    return report


def report_of(config: Config, place: Workplace, model_version: int) -> EvalReport:
    """Return the headline figures of a version that was evaluated before."""
    with transaction(place.engine) as connection:
        champion = versions.judged_against(connection, model_version)
        figures = verdicts.load_figures(connection, model_version)
    return headline(model_version, champion, figures, config.gate.cutoff)


def gate(config: Config, place: Workplace, report: EvalReport) -> Verdict:
    """Decide whether the candidate may be published, and store the decision with its reasons.

    A refusal that a person has overridden stays overridden: it is not written a second time.

    Raises:
        GateError: it may not, and nobody has overridden the refusal. Readers see what they saw.
        StateError: the version was not evaluated, or was published: it is not judged again.
    """
    version = report.model_version
    with transaction(place.engine) as connection:
        # Decided and recorded in one transaction: no state without its reasons.
        versions.require(connection, version, versions.JUDGED, "be judged")
        figures = verdicts.load_figures(connection, version)
        champion = versions.judged_against(connection, version)
        recent = versions.recent_versions(connection, config.gate.recent_days, excluding=version)
        decided = rules.judge(config, figures, champion, recent_best=bool(recent))
        passed = all(rule.passed for rule in decided)
        override = None if passed else verdicts.override_of(connection, version, "evaluated")
        if override is None:
            verdicts.save_decision(connection, version, champion, stage="evaluated", rules=decided)
        if passed or override:
            versions.move(connection, version, "dry_run" if config.run.dry_run else "approved")
        else:
            versions.move(connection, version, "refused")
    _show(place, decided)
    if override:
        place.log(
            f"the gate refuses version {version}, and {override.overridden_by} has overridden it: "
            f"{override.reason}"
        )
    elif not passed:
        rules.refuse(version, decided)
    verdict = Verdict(
        model_version=version,
        champion_version=champion,
        approved=True,
        reasons="\n".join(rule.line() for rule in decided),
        overridden_by=override.overridden_by if override else None,
    )
    place.log(f"{verdict.sentence()}; test RMSE {report.rmse:.4f}")
    return verdict


def override(place: Workplace, model_version: int, by: str, reason: str) -> None:
    """Put on record that a person lets a refused version pass.

    Raises:
        ConfigError: there is no such version, or name or reason is empty.
        StateError: it was not refused.
    """
    by = by.strip()
    reason = reason.strip()
    if not by or not reason:
        raise ConfigError("an override needs a name and a reason; pass --by NAME --reason TEXT.")
    with transaction(place.engine) as connection:
        versions.require(connection, model_version, ("refused",), "be overridden")
        champion = versions.judged_against(connection, model_version)
        said = [Rule("override", True, reason, value=None, limit=None)]
        verdicts.save_decision(
            connection, model_version, champion, stage="override", rules=said, decided_by=by
        )
        versions.move(connection, model_version, "approved")


def prepare(
    config: Config, place: Workplace, split: SplitRef, model: ModelRef, refitted: ModelRef
) -> list[int]:
    """Judge the refit, and make the version's empty table and its popular and similar lists.

    Lists that are attached already, made of the same by a run that was cut off before they went
    live, stay as they are.

    Returns the shards to fill the table with.

    Raises:
        GateError: the refit strays too far from the model that was evaluated.
        StateError: the version was not approved; or its attached lists were made of something else.
    """
    version = split.model_version
    require_approved(place, version)
    snapshot = read_snapshot(split.uri, split.sha256)
    models = load_models(refitted)
    heads = _readers_heads(config, place, snapshot, models)
    if refitted.stage == "refit":
        evaluated = _readers_heads(config, place, snapshot, load_models(model))
        _judge_refit(place, version, judge_refit(config, snapshot, evaluated, heads))

    shards = list(range(_n_shards(config, snapshot)))
    made_of = lists.made_of(config, split, refitted)
    if _are_attached(place, version, made_of):
        return shards
    popular = [lists.popular_frame(config, heads, version)]
    similar = lists.similar_frames(config, models.ranking, version)
    with transaction(place.engine) as connection:
        versions.lock(connection, version)
        lineage.save_artifacts(connection, refitted, split.split_id)
        publishing.create_table(connection, version, made_of)
        publishing.replace_rows(connection, "popular_items", version, popular)
        publishing.replace_rows(connection, "similar_items", version, similar)
    place.log(
        f"prepare: version {version} has its empty table, to be filled in {len(shards)} shards"
    )
    return shards


def _are_attached(place: Workplace, version: int, made_of: str) -> bool:
    """Say whether a version's lists are attached already.

    Raises:
        StateError: they are, but were made of something else. They can't be replaced while a
            publication of the same version may be under way, so the version is given up.
    """
    with transaction(place.engine) as connection:
        versions.lock(connection, version)
        before = publishing.attached_lists(connection, version)
        if before is None:
            return False
        # Not if it was published by now.
        versions.require(connection, version, ("approved",), "get new lists")
        if before == made_of:
            place.log(f"the lists of version {version} were finished before; they go live as is")
            return True
        versions.retire(connection, version)
    raise StateError(
        f"the lists of model version {version} are finished, but not from the models of this run: "
        "they were trained again since. The version is given up; readers have not seen it. Start "
        "the run again (`mf run --key`; in Airflow, clear `split` with everything downstream): it "
        "gets a new version."
    )


def _judge_refit(place: Workplace, version: int, decided: list[Rule]) -> None:
    passed = all(rule.passed for rule in decided)
    with transaction(place.engine) as connection:
        override = None if passed else verdicts.override_of(connection, version, "refit")
        if override is None:
            champion = versions.judged_against(connection, version)
            verdicts.save_decision(connection, version, champion, stage="refit", rules=decided)
        if not passed and override is None:
            versions.move(connection, version, "refused")
    _show(place, decided)
    if override:
        place.log(f"{override.overridden_by} has overridden it: {override.reason}")
    elif not passed:
        rules.refuse(version, decided)


def _readers_heads(
    config: Config,
    place: Workplace,
    snapshot: Snapshot,
    models: Models,
    samples: PosteriorSamples | None = None,
) -> Heads:
    """Return what the readers' lists are made with, without the items hidden at this moment."""
    with transaction(place.engine) as connection:
        hidden = readers.hidden_items(connection)
    return make_heads(
        config,
        snapshot,
        models,
        snapshot.all_ratings(),
        hidden_ids=hidden,
        samples=samples,
    )


def _n_shards(config: Config, snapshot: Snapshot) -> int:
    return min(config.recommend.shards, len(snapshot.users))


def recommend_shard(config: Config, place: Workplace, refitted: ModelRef, shard: int) -> int:
    """Write the lists of one shard of the users into the version's own table; return the rows."""
    version = refitted.model_version
    with transaction(place.engine) as connection:
        split = lineage.load_split_ref(connection, version)
    snapshot = read_snapshot(split.uri, split.sha256)

    samples = load_kept_samples(refitted, snapshot)
    models = load_models(refitted)
    heads = _readers_heads(config, place, snapshot, models, samples)
    users = lists.shard_users(len(snapshot.users), _n_shards(config, snapshot), shard)
    frames = lists.recommendation_frames(
        config, heads, users, model_version=version, generated_at=datetime.now(UTC)
    )

    # A shard is a range of ids, so that writing it again replaces what was written before.
    first = snapshot.users.ids[users[0]]
    last = snapshot.users.ids[users[-1]]
    with transaction(place.engine) as connection:
        rows = publishing.write_shard(connection, version, first, last_user=last, frames=frames)
    place.log(f"recommend: shard {shard} has {rows:,} rows for {len(users):,} users")
    return rows


def verify(config: Config, place: Workplace, refitted: ModelRef) -> int:
    """Check the version's table by SQL before anybody can see it; return its number of rows.

    Raises:
        VerificationError: a list breaks a rule.
    """
    min_coverage = config.publish.min_coverage
    version = refitted.model_version
    with transaction(place.engine) as connection:
        rows = publishing.verify_table(connection, version, min_coverage)
    place.log(f"verify: the {rows:,} rows of version {version} hold every rule")
    return rows


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
        done_before = versions.was_promoted(connection, version)
        if not done_before:
            # Evaluated only: it was approved, and killed while it was judged again.
            versions.require(connection, version, ("approved", "evaluated"), "go live")
            publishing.attach(connection, version)
    with transaction(place.engine) as connection:
        users, rows = publishing.size_of(connection, version)
        previous = versions.replaced_by(connection, version)
    if not done_before:
        publishing.wait_for_planned_readers(place.engine)
        report, previous = _promote(config, place, split, report)
    retired = _clean_up(config, place)
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


def _clean_up(config: Config, place: Workplace) -> list[int]:
    """Do what comes after a publication; return the versions whose lists are gone.

    Readers see the new version by now, so whatever fails here is left for the next time.
    """
    retired: list[int] = []
    with _next_time(place, "the models of published versions are not sealed"):
        _seal_published(place)
    with _next_time(place, "old versions are not retired"):
        retired = retire(place.engine, config.publish, place.log)
    with _next_time(place, "old artifacts are not removed"):
        _prune(config, place)
    return retired


@contextmanager
def _next_time(place: Workplace, what: str) -> Iterator[None]:
    """Put into the log what could not be done now."""
    try:
        yield
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        place.log(f"{what} yet; the next publication does it: {type(error).__name__}: {said[0]}")


def _seal_published(place: Workplace) -> None:
    """Mark the models of all versions that were ever published, those of older releases too."""
    with transaction(place.engine) as connection:
        published = versions.published_with_artifacts(connection)
    for version in published:
        seal(place.artifact_root, version)


def _promote(
    config: Config, place: Workplace, split: SplitRef, report: EvalReport
) -> tuple[EvalReport, int | None]:
    """Let an attached version go live; return its figures, and the version that was live before."""
    version = split.model_version
    with transaction(place.engine) as connection:
        killed_in_judgement = versions.is_in(connection, version, ("evaluated",))
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
        if versions.was_promoted(connection, version):
            return versions.replaced_by(connection, version)
        champion = versions.judged_against(connection, version)
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


def run_all(config: Config, place: Workplace, run_key: str) -> PublishReport | Verdict | SplitRef:
    """Run every step in this process.

    What comes back is how far the run went: nothing new, a dry run, or published.
    """
    with _on_record(place, run_key):
        check_settings(config, place)
        ingest(config, place)
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
def _on_record(place: Workplace, run_key: str) -> Iterator[None]:
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


def write_lists(config: Config, place: Workplace, split_ref: SplitRef, model: ModelRef) -> int:
    """Refit an approved version, write its lists and verify them; return the number of rows.

    Raises:
        StateError: the version was not approved.
        GateError: the refit strays too far from the model that was evaluated.
        VerificationError: a list breaks a rule.
    """
    # Before the fit, which may take hours.
    require_approved(place, split_ref.model_version)
    refitted = refit(
        config,
        place.artifact_root,
        split_ref,
        model,
        log=place.log,
        progress=place.progress,
    )
    for shard in prepare(config, place, split_ref, model=model, refitted=refitted):
        recommend_shard(config, place, refitted, shard)
    return verify(config, place, refitted)


def _show(place: Workplace, decided: list[Rule]) -> None:
    for rule in decided:
        outcome = "ok" if rule.passed else "NO"
        place.log(f"{outcome}  {rule.rule}: {rule.text}")


def _prune(config: Config, place: Workplace) -> None:
    """Remove the artifacts of versions that are neither kept nor recent enough to compare with."""
    stored = stored_versions(place.artifact_root)
    with transaction(place.engine) as connection:
        kept = publishing.attached_versions(connection)
        days = config.gate.recent_days
        forgotten = versions.forgettable(connection, kept, days, stored=set(stored))
    for version in forgotten:
        for uri in stored.get(version, ()):
            remove_artifact(uri)
        # The record goes last: what is on record and was not removed is removed the next time.
        with transaction(place.engine) as connection:
            lineage.forget_artifacts(connection, [version])
        place.log(f"removed the artifacts of version {version}")
