"""The steps of a run, in order. A DAG task and an `mf` command call the same function here.

Every step can be repeated: it finds what it needs in its arguments, the warehouse and the artifact store, and running it
again after a kill ends in the same state. `train` and `refit` touch no database.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import evaluate as evaluation
from mf_core import gate as rules
from mf_core import ingest as ingestion
from mf_core import publish as publishing
from mf_core import quality, recommend, registry
from mf_core.artifacts import remove_artifact
from mf_core.config import Config
from mf_core.errors import ConfigError, GateError, PromotionRaceError
from mf_core.loading import load_heads, load_kept_samples, load_rivals, recommender
from mf_core.records import (
    HEAD_FIELDS,
    EvalReport,
    IngestReport,
    ModelRef,
    PublishReport,
    QualityReport,
    RollbackReport,
    SplitRef,
    Verdict,
)
from mf_core.snapshot import Snapshot, content_hash, read_snapshot, write_snapshot
from mf_core.split import split_id, take_snapshot
from mf_core.train import run_trainer
from mf_core.warehouse import database_engine, tables, transaction
from mf_core.warm_start import find_start

_PROMOTION_ATTEMPTS = 3


@dataclass(frozen=True)
class Workplace:
    """Where a run works: the warehouse, the root of the artifacts, and where lines for people go."""

    engine: Engine
    artifact_root: str
    log: Callable[[str], None] = print


def workplace(
    database_url: str | None = None,
    artifact_root: str | None = None,
    log: Callable[[str], None] = print,
) -> Workplace:
    """Return the workplace of the given places, or of the environment variables MF_DATABASE_URL and MF_ARTIFACT_ROOT.

    Raises:
        ConfigError: no database is named, or it is not Postgres.
    """
    url = database_url or os.environ.get("MF_DATABASE_URL")
    if not url:
        raise ConfigError(
            "no warehouse is named; set MF_DATABASE_URL=postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
        )
    root = (
        artifact_root
        or os.environ.get("MF_ARTIFACT_ROOT")
        or (Path.cwd() / "var" / "artifacts").as_uri()
    )
    return Workplace(database_engine(url), root.rstrip("/"), log)


def ingest(config: Config, place: Workplace) -> IngestReport:
    """Load the source into `mf.ratings`. Raises InputError or DatabaseError."""
    return ingestion.ingest(place.engine, config, datetime.now(UTC), place.log)


def check(config: Config, place: Workplace) -> QualityReport:
    """Refuse ratings that are not fit to train on. Raises QualityError."""
    return quality.check_ratings(place.engine, config)


def split(config: Config, place: Workplace, run_key: str) -> SplitRef:
    """Freeze `mf.ratings` as a train/test snapshot and open the run's model version.

    Raises:
        QualityError: one side is empty.
        ArtifactStoreError: the snapshot can't be written.
    """
    with transaction(place.engine, isolation_level="REPEATABLE READ") as connection:
        snapshot = take_snapshot(
            connection, config.split, with_attributes=config.rating_head.uses_attributes()
        )
        taken_at = connection.execute(sa.select(sa.func.now())).scalar_one()
    place.log(
        f"snapshot: {len(snapshot.train):,} training and {len(snapshot.test):,} test ratings ({config.split.protocol})"
    )
    stored = _store(place, config, snapshot)
    if snapshot.attributes:
        known = [
            sum(text is not None for text in side)
            for side in (snapshot.attributes.user, snapshot.attributes.item)
        ]
        place.log(
            f"attributes of {known[0]:,} users and {known[1]:,} items, {stored['unrated_users']:,} and "
            f"{stored['unrated_items']:,} of them without a rating"
        )
    with transaction(place.engine) as connection:
        registry.save_snapshot(connection, stored)
        live = registry.live_version(connection)
        news = (
            live is None
            or config.run.force
            or registry.has_news(connection, config, stored["snapshot_id"])
        )
    split_ref = {name: value for name, value in stored.items() if name != "protocol"}
    if live is not None and not news:
        place.log(f"neither the ratings nor the settings have changed since version {live}")
        return SplitRef(model_version=live, news=False, **split_ref)
    start = find_start(config, place.engine, stored["split_id"], place.log)
    with transaction(place.engine) as connection:
        version = registry.begin_version(
            connection,
            config,
            run_key,
            stored["snapshot_id"],
            stored["split_id"],
            taken_at,
            start.model_version if start else None,
        )
    return SplitRef(
        model_version=version,
        news=True,
        **split_ref,
        **(registry.start_fields(start) if start else {}),
    )


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
    (warm_users, warm_items), (rated_users, rated_items) = snapshot.warm(), snapshot.rated()
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
        "cold_test_ratings": int(
            (~(warm_users[snapshot.test.user] & warm_items[snapshot.test.item])).sum()
        ),
    }


def train(
    config: Config, artifact_root: str, split: SplitRef, log: Callable[[str], None] = print
) -> ModelRef:
    """Fit both heads on the training rows, in a process of its own, from where `split` says. Raises TrainingError."""
    start = _start(split.start_version, split, "start_")
    return run_trainer(
        config,
        split.uri,
        split.sha256,
        split.model_version,
        "evaluated",
        artifact_root,
        warm_start=start,
        log=log,
    )


def refit(
    config: Config,
    artifact_root: str,
    split: SplitRef,
    model: ModelRef,
    log: Callable[[str], None] = print,
) -> ModelRef:
    """Fit both heads on all ratings, for as many iterations as the evaluated fit ended with.

    After a warm start those are few, so the refit then starts from tonight's evaluated model: it has taken tonight's news in,
    and only the held-out ratings are new to it. A refit has seen test rows, so nothing is ever started from one.

    With `publish.refit` off the evaluated model itself is what gets published. Raises TrainingError.
    """
    if not config.publish.refit:
        return model
    iterations = {"rating": model.rating_iterations, "ranking": model.ranking_iterations}
    start = None if model.warm_started_from is None else _start(model.model_version, model)
    return run_trainer(
        config,
        split.uri,
        split.sha256,
        split.model_version,
        "refit",
        artifact_root,
        iterations=iterations,
        warm_start=start,
        log=log,
    )


def _start(
    version: int | None, source: SplitRef | ModelRef, prefix: str = ""
) -> dict[str, Any] | None:
    """Return the model to start from as the trainer takes it; None without a `version`."""
    return (
        None
        if version is None
        else {"version": version, **{name: getattr(source, prefix + name) for name in HEAD_FIELDS}}
    )


def evaluate(config: Config, place: Workplace, split: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, its baselines and its rivals on the test rows, and store every figure.

    A rival whose artifacts are gone or damaged has no figures, and the gate refuses for want of them.
    """
    snapshot = read_snapshot(split.uri, split.sha256)
    candidate = evaluation.make_heads(
        config, snapshot, *load_heads(model), samples=load_kept_samples(model, snapshot)
    )
    with transaction(place.engine) as connection:
        registry.save_artifacts(connection, model, split.split_id)
        registry.set_trained(connection, model)
        champion_version = registry.live_version(connection)
        recent = registry.recent_versions(
            connection, config.gate.recent_days, excluding=split.model_version
        )
    live = set() if champion_version is None else {champion_version}
    rivals = load_rivals(
        config, place.engine, snapshot, split, {*recent, *live} - {split.model_version}, place.log
    )
    champion = rivals.get(champion_version) if champion_version is not None else None
    unlisted = evaluation.unlisted_items(config, snapshot)
    figures = evaluation.evaluate(
        config, snapshot, candidate, champion, [rivals[v] for v in recent if v in rivals], unlisted
    )
    with transaction(place.engine) as connection:
        registry.save_figures(connection, split.snapshot_id, split.model_version, figures)
        registry.set_state(
            connection, split.model_version, "evaluated", champion_version=champion_version
        )
    report = registry.eval_report(
        split.model_version, champion_version, figures, config.gate.cutoff
    )
    place.log(
        f"version {report.model_version}: test RMSE {report.rmse:.4f} (biases only {report.baseline_rmse:.4f}), "
        f"NDCG@{config.gate.cutoff} {report.ndcg:.4f} (popularity {report.popularity_ndcg:.4f}), champion {champion_version}"
    )
    return report


def gate(config: Config, place: Workplace, report: EvalReport) -> Verdict:
    """Decide whether the candidate may be published, and store the decision with its reasons.

    Raises:
        GateError: it may not, and nobody has overridden the refusal. What readers see is unchanged.
    """
    version = report.model_version
    with transaction(place.engine) as connection:
        figures = registry.load_figures(connection, version)
        champion = registry.judged_against(connection, version)
        recent = registry.recent_versions(connection, config.gate.recent_days, excluding=version)
        decided = rules.judge(config, figures, champion, recent_best=bool(recent))
        overridden_by = registry.overridden_by(connection, version)
        approved = registry.save_decision(connection, version, champion, "evaluated", decided)
        registry.set_state(
            connection, version, "approved" if approved or overridden_by else "refused"
        )
    _show(place, decided)
    if not approved and overridden_by:
        place.log(f"the gate refuses version {version}, and {overridden_by} has overridden it")
    elif not approved:
        _refuse(version, decided)
    reasons = "\n".join(f"{'ok' if rule.passed else 'NO'}  {rule.text}" for rule in decided)
    return Verdict(version, champion, True, reasons, None if approved else overridden_by)


def override(place: Workplace, model_version: int, by: str, reason: str) -> None:
    """Put on record that a person lets a refused version pass; running the gate again then approves it.

    Raises:
        ConfigError: there is no such version, it was not refused, or name or reason is empty.
    """
    if not by.strip() or not reason.strip():
        raise ConfigError("an override needs a name and a reason; pass --by NAME --reason TEXT.")
    with transaction(place.engine) as connection:
        state = connection.scalar(
            sa.select(tables.models.c.state).where(tables.models.c.model_version == model_version)
        )
        if state != "refused":
            raise ConfigError(
                f"model version {model_version} is {state or 'unknown'}; only a refused version can be overridden."
            )
        reasons = [rules.Rule("override", True, reason.strip(), None, None)]
        champion = registry.judged_against(connection, model_version)
        registry.save_decision(
            connection, model_version, champion, "override", reasons, decided_by=by.strip()
        )
        registry.set_state(connection, model_version, "approved")


def prepare(
    config: Config, place: Workplace, split: SplitRef, model: ModelRef, refitted: ModelRef
) -> list[int]:
    """Judge the refit, make the version's empty table and its popular and similar lists; return the shards to fill it with.

    Raises:
        GateError: the refit strays too far from the model that was evaluated.
    """
    snapshot = read_snapshot(split.uri, split.sha256)
    heads = load_heads(refitted)
    made = recommender(config, place.engine, snapshot, heads)
    if refitted.stage == "refit":
        decided = recommend.judge_refit(
            config, snapshot, recommender(config, place.engine, snapshot, load_heads(model)), made
        )
        with transaction(place.engine) as connection:
            champion = registry.judged_against(connection, split.model_version)
            approved = registry.save_decision(
                connection, split.model_version, champion, "refit", decided
            )
            if not approved:
                registry.set_state(connection, split.model_version, "refused")
        _show(place, decided)
        if not approved:
            _refuse(split.model_version, decided)
    with transaction(place.engine) as connection:
        registry.save_artifacts(connection, refitted, split.split_id)
        publishing.create_table(connection, split.model_version)
        version = split.model_version
        publishing.replace_rows(
            connection, "popular_items", version, [recommend.popular_frame(config, made, version)]
        )
        publishing.replace_rows(
            connection,
            "similar_items",
            version,
            recommend.similar_frames(config, heads[1], version),
        )
    return list(range(min(config.recommend.shards, len(snapshot.users))))


def recommend_shard(config: Config, place: Workplace, refitted: ModelRef, shard: int) -> int:
    """Write the lists of one shard of the users into the version's own table; return the number of rows."""
    with transaction(place.engine) as connection:
        split = registry.load_split_ref(connection, refitted.model_version)
    snapshot = read_snapshot(split.uri, split.sha256)
    made = recommender(
        config, place.engine, snapshot, load_heads(refitted), load_kept_samples(refitted, snapshot)
    )
    users = recommend.shard_users(
        len(snapshot.users), min(config.recommend.shards, len(snapshot.users)), shard
    )
    frames = recommend.recommendation_frames(
        config, made, users, refitted.model_version, datetime.now(UTC)
    )
    first, last = snapshot.users.ids[users[0]], snapshot.users.ids[users[-1]]
    with transaction(place.engine) as connection:
        rows = publishing.write_shard(connection, refitted.model_version, first, last, frames)
    place.log(f"shard {shard}: {rows:,} rows for {len(users):,} users")
    return rows


def verify(config: Config, place: Workplace, refitted: ModelRef) -> int:
    """Check the version's table by SQL before anybody can see it; return its number of rows. Raises VerificationError."""
    with transaction(place.engine) as connection:
        return publishing.verify_table(
            connection, refitted.model_version, config.publish.min_coverage
        )


def publish(config: Config, place: Workplace, split: SplitRef, report: EvalReport) -> PublishReport:
    """Attach the version's table, let it go live, and retire old versions.

    If another run went live since the verdict, the candidate is judged again, against that one.

    Raises:
        PromotionRaceError: that happened several times in a row.
        GateError: the second judgement refused.
    """
    version = split.model_version
    with transaction(place.engine) as connection:
        publishing.attach(connection, version)
        done_before = publishing.was_promoted(connection, version)
    if not done_before:
        publishing.wait_for_planned_readers(place.engine)
        report = _promote(config, place, split, report)
    retired = publishing.retire(place.engine, config.publish.keep_versions, place.log)
    _prune(config, place)
    return publishing.report_of(place.engine, version, report, retired)


def _promote(config: Config, place: Workplace, split: SplitRef, report: EvalReport) -> EvalReport:
    for attempt in range(1, _PROMOTION_ATTEMPTS + 1):
        try:
            with transaction(place.engine) as connection:
                champion = registry.judged_against(connection, split.model_version)
                publishing.promote(connection, split.model_version, champion)
            return report
        except PromotionRaceError as race:
            if attempt == _PROMOTION_ATTEMPTS:
                raise
            place.log(f"{race} Judging again.")
            with transaction(place.engine) as connection:
                model = registry.load_model_ref(connection, split.model_version, "evaluated")
            report = evaluate(config, place, split, model)
            gate(config, place, report)
    raise AssertionError("unreachable")


def rollback(place: Workplace, model_version: int | None = None) -> RollbackReport:
    """Let readers see an earlier version again (None: the one before). Raises ConfigError or PromotionRaceError."""
    return publishing.rollback(place.engine, model_version)


def run_all(config: Config, place: Workplace, run_key: str) -> PublishReport | Verdict | SplitRef:
    """Run every step in this process; what comes back is how far the run went (nothing new, dry run, published)."""
    ingest(config, place)
    check(config, place)
    split_ref = split(config, place, run_key)
    if not split_ref.news:
        return split_ref
    model = train(config, place.artifact_root, split_ref, place.log)
    report = evaluate(config, place, split_ref, model)
    verdict = gate(config, place, report)
    if config.run.dry_run:
        return verdict
    return run_to_readers(config, place, split_ref, model, report)


def run_to_readers(
    config: Config, place: Workplace, split_ref: SplitRef, model: ModelRef, report: EvalReport
) -> PublishReport:
    """Run the steps after an approval: refit, recommend, verify, publish."""
    refitted = refit(config, place.artifact_root, split_ref, model, place.log)
    for shard in prepare(config, place, split_ref, model, refitted):
        recommend_shard(config, place, refitted, shard)
    verify(config, place, refitted)
    return publish(config, place, split_ref, report)


def _show(place: Workplace, decided: list[rules.Rule]) -> None:
    for rule in decided:
        place.log(f"{'ok' if rule.passed else 'NO'}  {rule.rule}: {rule.text}")


def _refuse(version: int, decided: list[rules.Rule]) -> NoReturn:
    broken = "; ".join(rule.text for rule in decided if not rule.passed)
    raise GateError(
        f"model version {version} is refused: {broken}. Recommendations are unchanged; see docs/runbook.md#gate."
    )


def _prune(config: Config, place: Workplace) -> None:
    """Remove the artifacts of versions that are neither kept nor recent enough to be compared with."""
    m, a = tables.models, tables.model_artifacts
    with transaction(place.engine) as connection:
        kept = publishing.attached_versions(connection)
        old = m.c.created_at < sa.func.now() - sa.func.make_interval(
            0, 0, 0, config.gate.recent_days
        )
        with_artifacts = sa.exists().where(a.c.model_version == m.c.model_version)
        versions = list(
            connection.scalars(
                sa.select(m.c.model_version).where(
                    old, with_artifacts, m.c.model_version.not_in(kept)
                )
            )
        )
        connection.execute(sa.delete(a).where(a.c.model_version.in_(versions)))
    for version in versions:
        remove_artifact(f"{place.artifact_root}/models/{version}")
        place.log(f"removed the artifacts of version {version}")
