"""The peers in closed form and what measures both sides, against plain code of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.planted import Scale
from benchmarks.sets import Case
from benchmarks.shape_pages import BEGIN, END, losses_of, text_of, with_table
from benchmarks.shape_results import figures_of, measure, shape_of

RUNNER = Path(__file__).parents[2] / "benchmarks" / "peers" / "run_linear.py"
SCALE = Scale(1, 5, 1, relevant_from=4, centre=3.5, spread=1)
N_TRAIN = 450


def toy(folder: Path, n_users: int, n_items: int) -> Case:
    """A set in which even users like other items than odd ones; the first user rates nothing."""
    rng = np.random.default_rng(3)
    pairs = n_items + rng.permutation((n_users - 1) * n_items)[:600]
    user, item = pairs // n_items, pairs % n_items
    likes = 2.5 * ((user + item) % 2)
    value = np.clip(np.round(1.5 + likes + 0.5 * (item % 3) + 0.5 * rng.normal(size=600)), 1, 5)
    # One test row of a user who has no training row.
    user[-1] = 0

    columns: dict[str, Any] = {}
    for name, column in zip("uirs", (user, item, value, pairs), strict=True):
        columns[f"tr{name}"] = column[:N_TRAIN]
        columns[f"te{name}"] = column[N_TRAIN:]
    arrays = folder / "case.npz"
    np.savez(
        arrays,
        **columns,
        user_ids=np.arange(n_users),
        item_ids=np.arange(n_items),
        validation=np.arange(N_TRAIN) % 5 == 0,
    )
    return Case("toy", "random", folder, folder, arrays, SCALE)


def run(case: Case, system: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return the system's file, what it holds, and the settings it has found."""
    task = {"system": system, "seed": 0, "kind": "ratings", "low": 1, "high": 5, "relevant_from": 4}
    out = case.arrays.parent / f"{system}.npz"
    command = [sys.executable, str(RUNNER), str(case.arrays), json.dumps(task), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(out) as held:
        arrays: dict[str, Any] = dict(held)
    return out, arrays, json.loads(str(arrays["found"]))["settings"]


def values_of(case: Case, lowest: float) -> NDArray[np.float64]:
    """The training rows as a matrix: `lowest` for a rating of 1, 1 for one of 4."""
    with np.load(case.arrays) as held:
        matrix = np.zeros((len(held["user_ids"]), len(held["item_ids"])))
        matrix[held["tru"], held["tri"]] = lowest + (1 - lowest) * (held["trr"] - 1) / 3
    return matrix


def lists_by_hand(case: Case, scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each user's ten best items that he has not rated."""
    with np.load(case.arrays) as held:
        scores[held["tru"], held["tri"]] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 30), (30, 60)])
def test_the_autoencoders_are_the_closed_forms_of_their_papers(
    tmp_path: Path, n_users: int, n_items: int
) -> None:
    """By the smaller side, which ever it is; here by the items' side alone."""
    case = toy(tmp_path, n_users, n_items)
    for system in ("ease", "dlae", "edlae"):
        _, arrays, found = run(case, system)
        x = values_of(case, found["lowest"])
        gram = x.T @ x
        dropout = found.get("dropout", 0.0)
        loading = found["ridge"] + dropout / (1 - dropout) * np.diag(gram)
        inverse = np.linalg.inv(gram + np.diag(loading))
        if system == "dlae":
            weights = inverse @ gram
        else:
            weights = np.eye(n_items) - inverse / np.diag(inverse)
            assert np.allclose(np.diag(weights), 0)

        by_hand = lists_by_hand(case, x @ weights)
        same = (arrays["lists"] == by_hand)[1:].mean()
        # Two items of nearly the same score may change places in float32.
        assert same > 0.98, system


def test_a_list_holds_no_rated_item_and_a_new_user_gets_the_popular_one(tmp_path: Path) -> None:
    case = toy(tmp_path, 60, 30)
    with np.load(case.arrays) as held:
        rated = set(zip(held["tru"].tolist(), held["tri"].tolist(), strict=True))
        good = held["tri"][held["trr"] >= 4]
    for system in ("ease", "rp3beta", "popularity"):
        _, arrays, _ = run(case, system)
        for user, row in enumerate(arrays["lists"].tolist()):
            assert len(set(row)) == 10
            assert not rated & {(user, item) for item in row}
        counts = np.bincount(good, minlength=30)[arrays["lists"][0]]
        assert (np.diff(counts) <= 0).all()


def test_taste_makes_better_lists_than_popularity_and_biases_beat_the_mean(tmp_path: Path) -> None:
    case = toy(tmp_path, 60, 30)
    measured = {}
    for system in ("ease", "popularity", "biases"):
        out, _, _ = run(case, system)
        measured[system] = measure(case, [out])
    figures = figures_of(measured, SCALE)["systems"]
    assert figures["ease"]["ndcg"] > figures["popularity"]["ndcg"] + 0.03
    with np.load(case.arrays) as held:
        spread = float(np.sqrt(np.mean((held["ter"] - held["trr"].mean()) ** 2)))
    assert figures["biases"]["rmse"] < spread


def test_ndcg_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    case = toy(tmp_path, 60, 30)
    out, arrays, _ = run(case, "popularity")
    gains = []
    for user, relevant in relevant_items(case).items():
        places = [at for at, item in enumerate(arrays["lists"][user]) if item in relevant]
        best = range(min(10, len(relevant)))
        gains.append(sum(1 / np.log2(at + 2) for at in places))
        gains[-1] /= sum(1 / np.log2(at + 2) for at in best)
    figures = figures_of({"popularity": measure(case, [out])}, SCALE)
    assert figures["systems"]["popularity"]["ndcg"] == pytest.approx(np.mean(gains))


def test_the_loss_says_who_is_ahead_and_by_how_much(tmp_path: Path) -> None:
    case = toy(tmp_path, 60, 30)
    out, arrays, _ = run(case, "popularity")
    popularity = measure(case, [out])

    # Nobody can do better than the relevant items themselves.
    arrays["lists"][:] = -1
    for user, relevant in relevant_items(case).items():
        arrays["lists"][user, : len(relevant)] = sorted(relevant)
    best = tmp_path / "best.npz"
    np.savez(best, **arrays)
    perfect = measure(case, [best])

    ahead = figures_of({"ours": perfect, "popularity": popularity}, SCALE)
    behind = figures_of({"ours": popularity, "ease": perfect}, SCALE)
    assert ahead["systems"]["ours"]["ndcg"] == pytest.approx(1)
    assert ahead["lists"]["loss"] < ahead["lists"]["loss_high"] < 0
    assert behind["lists"]["loss"] == pytest.approx(-ahead["lists"]["loss"])
    assert "toy/random (ease by" in losses_of({"cases": {"toy/random": behind}})
    assert "toy/random" not in losses_of({"cases": {"toy/random": ahead}})


def test_what_was_measured_elsewhere_is_said() -> None:
    case: dict[str, Any] = {"systems": {}}
    about = {"run": "r", "started": "s", "commit": "old", "machine": "m"}
    later = {**case, "measured": {"commit": "new", "machine": "m"}}
    text = text_of({**about, "cases": {"a/random": case, "b/random": later, "c/random": later}})
    assert text.startswith("Run r, s, commit old; m.\n\nb/random, c/random: commit new; m.\n")


def relevant_items(case: Case) -> dict[int, set[int]]:
    """The relevant test items of each user who has one."""
    with np.load(case.arrays) as held:
        good = held["ter"] >= 4
        pairs = zip(held["teu"][good].tolist(), held["tei"][good].tolist(), strict=True)
    relevant: dict[int, set[int]] = {}
    for user, item in pairs:
        relevant.setdefault(user, set()).add(item)
    return relevant


def test_a_page_has_the_table_between_its_marks_and_nothing_else_is_touched(tmp_path: Path) -> None:
    case = toy(tmp_path, 60, 30)
    out, _, _ = run(case, "popularity")
    measured = {"ours": measure(case, [out]), "popularity": measure(case, [out])}
    about = {"cases": {case.name: {"shape": shape_of(case), **figures_of(measured, SCALE)}}}
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nan older table\n{END}\nafter\n")

    page.write_text(with_table(page, about))
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "| toy/random | 600 | 7.5 | 22 |" in once
    assert "older" not in once
    assert with_table(page, about) == once

    page.write_text("a page without the marks")
    with pytest.raises(ValueError, match="shapes"):
        with_table(page, about)
