"""Every metric is measured, every rule of the gate is tested, and gate limits train nothing."""

from pathlib import Path

import numpy as np

from mf_core import figures
from mf_core.config import Config, make_config, settings
from mf_core.figures import METRICS, Metric
from mf_core.judging.evaluate import evaluate
from mf_core.judging.gate import judge
from mf_core.models.samples import PosteriorSamples

from .test_gate import good_figures
from .test_metrics import baseline_heads, world


def test_every_metric_that_is_defined_is_in_the_list() -> None:
    defined = [value for value in vars(figures).values() if isinstance(value, Metric)]
    defined += [*figures.INTERVAL_COVERAGES.values(), *figures.INTERVAL_REACHES.values()]
    assert len(defined) > 10
    assert set(defined) == set(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_metric_of_the_list_is_measured_for_a_candidate() -> None:
    config = make_config({"gate.bootstrap_samples": 100, "gate.cutoff": 7})
    snapshot = world()
    users = np.zeros((1, len(snapshot.users), 2), np.float32)
    items = np.zeros((1, len(snapshot.items), 2), np.float32)
    samples = PosteriorSamples(users, items, users[:, :, 0] + 0.5, items[:, :, 0] + 0.5)
    candidate = baseline_heads(config, snapshot, samples=samples)

    measured = evaluate(config, snapshot, candidate, champion=None, recent=[])
    names = {figure.metric for figure in measured if figure.subject == "candidate"}
    assert names == {metric.stored(7) for metric in METRICS}


def test_every_rule_of_the_gate_is_broken_in_a_test() -> None:
    rules = judge(Config(), good_figures(), champion_version=7, recent_best=True)
    tested = (Path(__file__).parent / "test_gate.py").read_text(encoding="utf-8")
    assert len(rules) > 10
    # One rule serves both rivals, so rows warm for both are broken against the champion only.
    untested = [rule.rule for rule in rules if f'"{rule.rule}"' not in tested]
    assert set(untested) <= {
        "rmse_against_recent_best_warm_both",
        "ndcg_against_recent_best_warm_both",
    }


def test_a_limit_of_the_gate_shapes_the_verdict_and_nothing_else() -> None:
    limits = {found.name: found.shapes for found in settings() if found.section == "gate"}
    assert len(limits) > 10
    assert set(limits.values()) == {"verdict"}
