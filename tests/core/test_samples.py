"""Standard deviations from kept samples: by hand, against NumPy, and through the artifact."""

from pathlib import Path

import numpy as np
import pytest

from mf_core.data.ratings import id_map
from mf_core.errors import ArtifactError
from mf_core.models.factors import FactorModel, load_model, save_model
from mf_core.models.samples import PosteriorSamples, load_samples, sample_files


def drawn(
    n_samples: int = 7, n_users: int = 5, n_items: int = 4, rank: int = 3
) -> PosteriorSamples:
    """Return samples drawn at random."""
    generator = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=(n_samples, *shape)).astype(np.float32)

    return PosteriorSamples(
        normal(n_users, rank + 1),
        normal(n_items, rank + 1),
        normal(n_users) ** 2,
        normal(n_items) ** 2,
    )


def int32(*rows: int) -> np.ndarray:
    """Return rows as int32."""
    return np.array(rows, np.int32)


def test_the_deviation_is_that_of_the_samples_and_of_the_noise() -> None:
    # Predictions 2 * 3 + 1 + 1 = 8 and 1 * 4 + 0 + 0 = 4: variance 8.
    # Noise .5 * 2 = 1 and 1 * 3 = 3: mean 2.
    user = np.array([[[2, 1]], [[1, 0]]], np.float32)
    item = np.array([[[3, 1]], [[4, 0]]], np.float32)
    samples = PosteriorSamples(
        user, item, np.array([[0.5], [1]], np.float32), np.array([[2], [3]], np.float32)
    )
    assert samples.standard_deviation(int32(0), int32(0)).tolist() == [pytest.approx(10**0.5)]


def test_one_sample_tells_of_the_noise_only() -> None:
    one = drawn(n_samples=1)
    expected = np.sqrt(one.user_variance[0, 2] * one.item_variance[0, 3])
    assert one.standard_deviation(int32(2), int32(3))[0] == pytest.approx(expected, rel=1e-6)


def test_any_number_of_pairs_gives_what_numpy_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mf_core.models.samples._PAIRS_AT_A_TIME", 6)
    samples = drawn()
    user, item = (
        np.repeat(np.arange(5, dtype=np.int32), 4),
        np.tile(np.arange(4, dtype=np.int32), 5),
    )
    wide = {name: array.astype(np.float64) for name, array in vars(samples).items()}
    predicted = np.einsum("suk,sik->sui", wide["user"][..., :-1], wide["item"][..., :-1])
    predicted += wide["user"][:, :, None, -1] + wide["item"][:, None, :, -1]
    noise = (wide["user_variance"][:, :, None] * wide["item_variance"][:, None, :]).mean(axis=0)
    expected = np.sqrt(predicted.var(axis=0, ddof=1) + noise).ravel()
    np.testing.assert_allclose(samples.standard_deviation(user, item), expected, rtol=1e-6)


def test_an_unknown_row_has_no_deviation() -> None:
    deviation = drawn().standard_deviation(int32(-1, 0, -1, 1), int32(0, -1, -1, 1))
    assert np.isnan(deviation).tolist() == [True, True, True, False]
    assert len(drawn().standard_deviation(int32(), int32())) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": np.zeros((7, 5, 3), np.float32)}, "expected"),
        ({"item_variance": np.zeros((7, 5), np.float32)}, "expected"),
        ({"user_variance": np.zeros((6, 5), np.float32)}, "expected"),
        ({"user_variance": np.full((7, 5), -1, np.float32)}, "negative"),
        ({"item_variance": np.full((7, 4), np.inf, np.float32)}, "infinity"),
        ({"user": np.full((7, 5, 4), np.nan, np.float32)}, "NaN"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PosteriorSamples(**{**vars(drawn()), **change})
    with pytest.raises(ValueError, match="expected"):
        PosteriorSamples(**{name: array[:0] for name, array in vars(drawn()).items()})


def saved(tmp_path: Path, samples: PosteriorSamples | None) -> tuple[str, str]:
    """Save a model with `samples` and return its URI and sha256."""
    users, items = id_map("abcde"), id_map("wxyz")
    bias = {"user_bias": np.zeros(5, np.float32), "item_bias": np.zeros(4, np.float32)}
    factors = {
        "user_factors": np.ones((5, 2), np.float32),
        "item_factors": np.ones((4, 2), np.float32),
    }
    uri = (tmp_path / "rating").as_uri()
    return uri, save_model(
        FactorModel(3.0, **bias, **factors, users=users, items=items),
        uri,
        {},
        sample_files(samples),
    )


def test_samples_lie_in_the_models_artifact(tmp_path: Path) -> None:
    uri, sha256 = saved(tmp_path, drawn())
    loaded = load_samples(uri, sha256)
    assert loaded is not None
    for name, array in vars(drawn()).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
        assert getattr(loaded, name).dtype == np.float32
    assert load_model(uri, sha256).mean == 3.0


def test_a_model_without_samples_has_none(tmp_path: Path) -> None:
    assert load_samples(*saved(tmp_path, None)) is None


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    uri, sha256 = saved(tmp_path, drawn())
    path = tmp_path / "rating" / "item_sample_004.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    load_model(uri, sha256)
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        load_samples(uri, sha256)
