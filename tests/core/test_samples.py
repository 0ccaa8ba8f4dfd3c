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
        array = generator.normal(size=(n_samples, *shape))
        return array.astype(np.float32)

    return PosteriorSamples(
        user=normal(n_users, rank + 1),
        item=normal(n_items, rank + 1),
        user_variance=normal(n_users) ** 2,
        item_variance=normal(n_items) ** 2,
    )


def int32(*rows: int) -> np.ndarray:
    """Return rows as int32."""
    return np.array(rows, np.int32)


def test_the_deviation_is_that_of_the_samples_and_of_the_noise() -> None:
    # Predictions 2 * 3 + 1 + 1 = 8 and 1 * 4 + 0 + 0 = 4: variance 8.
    # Noise .5 * 2 = 1 and 1 * 3 = 3: mean 2.
    samples = PosteriorSamples(
        user=np.array([[[2, 1]], [[1, 0]]], np.float32),
        item=np.array([[[3, 1]], [[4, 0]]], np.float32),
        user_variance=np.array([[0.5], [1]], np.float32),
        item_variance=np.array([[2], [3]], np.float32),
    )
    [deviation] = samples.standard_deviation(int32(0), int32(0))

    assert deviation == pytest.approx(10**0.5)


def test_one_sample_tells_of_the_noise_only() -> None:
    one = drawn(n_samples=1)
    [deviation] = one.standard_deviation(int32(2), int32(3))

    variance = one.user_variance[0, 2] * one.item_variance[0, 3]

    assert deviation == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_any_number_of_pairs_gives_what_numpy_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mf_core.models.samples._PAIRS_AT_A_TIME", 6)
    samples = drawn()
    every_user = np.repeat(np.arange(5, dtype=np.int32), 4)
    every_item = np.tile(np.arange(4, dtype=np.int32), 5)
    found = samples.standard_deviation(every_user, every_item)

    # prediction of each sample = p . q + both biases; the mean is the same in all and drops out
    user = samples.user.astype(np.float64)
    item = samples.item.astype(np.float64)
    predicted = np.einsum("suk,sik->sui", user[..., :-1], item[..., :-1])
    predicted += user[:, :, None, -1] + item[:, None, :, -1]

    # variance = variance of the predictions + mean of the products of both noises
    user_noise = samples.user_variance.astype(np.float64)
    item_noise = samples.item_variance.astype(np.float64)
    noise = user_noise[:, :, None] * item_noise[:, None, :]
    variance = predicted.var(axis=0, ddof=1) + noise.mean(axis=0)

    expected = np.sqrt(variance).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_unknown_row_has_no_deviation() -> None:
    samples = drawn()
    deviation = samples.standard_deviation(int32(-1, 0, -1, 1), int32(0, -1, -1, 1))
    of_nothing = samples.standard_deviation(int32(), int32())

    assert np.isnan(deviation).tolist() == [True, True, True, False]
    assert len(of_nothing) == 0


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
    arrays = vars(drawn())
    changed = {**arrays, **change}
    without_samples = {name: array[:0] for name, array in arrays.items()}

    with pytest.raises(ValueError, match=message):
        PosteriorSamples(**changed)

    with pytest.raises(ValueError, match="expected"):
        PosteriorSamples(**without_samples)


def saved(tmp_path: Path, samples: PosteriorSamples | None) -> tuple[str, str]:
    """Save a model with `samples` and return its URI and sha256."""
    model = FactorModel(
        mean=3.0,
        user_bias=np.zeros(5, np.float32),
        item_bias=np.zeros(4, np.float32),
        user_factors=np.ones((5, 2), np.float32),
        item_factors=np.ones((4, 2), np.float32),
        users=id_map("abcde"),
        items=id_map("wxyz"),
    )
    uri = (tmp_path / "rating").as_uri()
    sha256 = save_model(model, uri, {}, sample_files(samples))

    return uri, sha256


def test_samples_lie_in_the_models_artifact(tmp_path: Path) -> None:
    uri, sha256 = saved(tmp_path, drawn())
    loaded = load_samples(uri, sha256)

    assert loaded is not None

    for name, array in vars(drawn()).items():
        found = getattr(loaded, name)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.float32

    model = load_model(uri, sha256)
    assert model.mean == 3.0


def test_a_model_without_samples_has_none(tmp_path: Path) -> None:
    uri, sha256 = saved(tmp_path, None)
    loaded = load_samples(uri, sha256)

    assert loaded is None


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    uri, sha256 = saved(tmp_path, drawn())
    path = tmp_path / "rating" / "item_sample_004.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    # The model itself is whole.
    load_model(uri, sha256)

    with pytest.raises(ArtifactError, match="was changed or damaged"):
        load_samples(uri, sha256)
