"""The steps from the approval to verified lists: prepare, recommend, verify."""

from datetime import UTC, datetime

from mf_core.config import Config
from mf_core.data.snapshot import Snapshot, read_snapshot
from mf_core.errors import StateError
from mf_core.figures import Rule
from mf_core.judging import gate as rules
from mf_core.judging.refit import judge_refit
from mf_core.models.heads import Heads, Models, load_kept_samples, load_models, make_heads
from mf_core.models.samples import PosteriorSamples
from mf_core.pipeline.models import refit, require_approved, show_rules
from mf_core.pipeline.place import Workplace
from mf_core.publishing import publish as publishing
from mf_core.publishing import recommend as lists
from mf_core.publishing import verification
from mf_core.records import (
    ModelRef,
    SplitRef,
)
from mf_core.training.found import in_force
from mf_core.warehouse import (
    history,
    lineage,
    readers,
    states,
    transaction,
    verdicts,
    versions,
)


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
    config = in_force(config, refitted)
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
    popular = lists.popular_frames(config, heads, snapshot.all_ratings(), version)
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
        states.require(connection, version, ("approved",), "get new lists")
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
            champion = history.judged_against(connection, version)
            verdicts.save_decision(connection, version, champion, stage="refit", rules=decided)
        if not passed and override is None:
            versions.move(connection, version, "refused")
    show_rules(place, decided)
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
    config = in_force(config, refitted)
    with transaction(place.engine) as connection:
        split = lineage.load_split_ref(connection, version)
    snapshot = read_snapshot(split.uri, split.sha256)

    samples = load_kept_samples(refitted, snapshot)
    models = load_models(refitted)
    heads = _readers_heads(config, place, snapshot, models, samples)
    users = lists.shard_users(len(snapshot.users), _n_shards(config, snapshot), shard)
    tables = lists.recommendation_tables(
        config, heads, users, model_version=version, generated_at=datetime.now(UTC)
    )

    # A shard is a range of ids, so that writing it again replaces what was written before.
    first = snapshot.users.ids[users[0]]
    last = snapshot.users.ids[users[-1]]
    with transaction(place.engine) as connection:
        rows = publishing.write_shard(connection, version, first, last_user=last, tables=tables)
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
        rows = verification.verify_table(connection, version, min_coverage)
    place.log(f"verify: the {rows:,} rows of version {version} hold every rule")
    return rows


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
