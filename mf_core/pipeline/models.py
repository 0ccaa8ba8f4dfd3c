"""The steps from the snapshot to the verdict: train, evaluate, gate, refit; and the override."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from mf_core.config import Config
from mf_core.data.snapshot import read_snapshot
from mf_core.errors import ConfigError
from mf_core.figures import Rule, headline, mark_of
from mf_core.judging import gate as rules
from mf_core.judging.evaluate import evaluate as measure
from mf_core.judging.rivals import Rival, load_rival
from mf_core.models.heads import load_kept_samples, load_models, make_heads
from mf_core.pipeline.place import Log, Workplace
from mf_core.records import (
    EvalReport,
    FoundSettings,
    ModelRef,
    SplitRef,
    Verdict,
)
from mf_core.training.found import basis, in_force
from mf_core.training.launcher import ShowProgress, run_trainer
from mf_core.training.manifest import Manifest
from mf_core.warehouse import found as finds
from mf_core.warehouse import (
    history,
    lineage,
    states,
    transaction,
    verdicts,
    versions,
)


def train(
    config: Config,
    artifact_root: str,
    split: SplitRef,
    log: Log = print,
    progress: ShowProgress | None = None,
) -> ModelRef:
    """Fit the heads on the training rows, in a process of its own. Raises TrainingError."""
    manifest = Manifest.of(
        config,
        split,
        "evaluated",
        artifact_root,
        parent_pid=os.getpid(),
        start=split.start,
        found=split.found,
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
    """Fit the heads on all ratings, for as many iterations as the evaluated fit ended with.

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
        iterations=model.iterations(),
        start=None if model.warm_started_from is None else model.as_start(),
        found=model.found,
    )
    refitted = run_trainer(manifest, log, progress)
    log(refitted.sentence())
    return refitted


def require_unpublished(place: Workplace, model_version: int) -> None:
    """Make sure that a version may still be worked on. Raises StateError or ConfigError."""
    with transaction(place.engine) as connection:
        states.require(connection, model_version, states.NOT_PUBLISHED, "be made again")


def require_approved(place: Workplace, model_version: int) -> None:
    """Make sure that a version may go live. Raises StateError or ConfigError."""
    with transaction(place.engine) as connection:
        states.require(connection, model_version, ("approved",), "get new lists")


def record_training(config: Config, place: Workplace, split: SplitRef, model: ModelRef) -> None:
    """Put on record where the evaluated models lie, and the settings that a search has found.

    Raises:
        StateError: the version was published.
    """
    version = split.model_version
    with transaction(place.engine) as connection:
        versions.record_fit(connection, model)
        lineage.save_artifacts(connection, model, split.split_id)
        if model.found is not None and split.search:
            found_id = finds.save(
                connection, model.found, fingerprint=basis(config), model_version=version
            )
            versions.record_found(connection, version, found_id, model.found.settings)


def evaluate(config: Config, place: Workplace, split: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, its baselines and its rivals on the test rows; store every figure.

    A rival whose artifacts are gone or damaged has no figures, and so the gate refuses.

    Raises:
        StateError: the version was published: it is not judged again.
    """
    version = split.model_version
    require_unpublished(place, version)
    record_training(config, place, split, model)
    config = in_force(config, model)
    snapshot = read_snapshot(split.uri, split.sha256)
    samples = load_kept_samples(model, snapshot)

    # The lists of a judge know the training side only; the test side is what they are judged by.
    candidate = make_heads(config, snapshot, load_models(model), snapshot.train, samples=samples)
    with transaction(place.engine) as connection:
        champion_version = history.live_version(connection)
        recent = history.recent_versions(connection, config.gate.recent_days, excluding=version)

    load = partial(load_rival, config, place.engine, snapshot, split, log=place.log)
    champion = None
    if champion_version not in (None, version):
        champion = load(champion_version)
    figures = measure(
        config,
        snapshot,
        candidate,
        champion=champion,
        recent=_loaded(load, recent, champion_version, champion),
        log=place.log,
    )

    with transaction(place.engine) as connection:
        versions.move(connection, version, "evaluated", champion_version=champion_version)
        verdicts.save_figures(connection, split.snapshot_id, version, figures)
    report = headline(version, champion_version, figures, config.gate.cutoff)
    place.log(report.sentence())
    return report


def _loaded(
    load: Callable[[int], Rival | None],
    versions: Sequence[int],
    champion_version: int | None,
    champion: Rival | None,
) -> Iterator[Rival]:
    """Yield the versions that can be compared with, one at a time to save memory."""
    for version in versions:
        rival = champion if version == champion_version else load(version)
        if rival is not None:
            yield rival


def report_of(config: Config, place: Workplace, model_version: int) -> EvalReport:
    """Return the headline figures of a version that was evaluated before."""
    with transaction(place.engine) as connection:
        champion = history.judged_against(connection, model_version)
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
        states.require(connection, version, states.JUDGED, "be judged")
        figures = verdicts.load_figures(connection, version)
        champion = history.judged_against(connection, version)
        recent = history.recent_versions(connection, config.gate.recent_days, excluding=version)
        decided = rules.judge(config, figures, champion, recent_best=bool(recent))
        decided += _settings_in_force(finds.of_version(connection, version))
        passed = all(rule.passed for rule in decided)
        override = None if passed else verdicts.override_of(connection, version, "evaluated")
        if override is None:
            verdicts.save_decision(connection, version, champion, stage="evaluated", rules=decided)
        if passed or override:
            versions.move(connection, version, "dry_run" if config.run.dry_run else "approved")
        else:
            versions.move(connection, version, "refused")
    show_rules(place, decided)
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
    place.log(f"{verdict.sentence()}; {report.ratings_in_words()}")
    return verdict


def _settings_in_force(found: FoundSettings | None) -> list[Rule]:
    """Return a rule that always holds, so that a verdict says by which settings the version is."""
    if found is None:
        return []
    text = f"{found.sentence()}: {found.values()}"
    return [Rule("settings", True, text, value=None, limit=None)]


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
        states.require(connection, model_version, ("refused",), "be overridden")
        champion = history.judged_against(connection, model_version)
        said = [Rule("override", True, reason, value=None, limit=None)]
        verdicts.save_decision(
            connection, model_version, champion, stage="override", rules=said, decided_by=by
        )
        versions.move(connection, model_version, "approved")


def show_rules(place: Workplace, decided: list[Rule]) -> None:
    """Put the gate's rules into the log, each with how it came out."""
    for rule in decided:
        place.log(f"{mark_of(rule.passed, rule.warning)}  {rule.rule}: {rule.text}")
