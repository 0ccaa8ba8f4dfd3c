"""Settings are defined once and checked at the door."""

import math
import tomllib
from pathlib import Path

import pytest
from pydantic import Field

from mf_core.cli.admin import deployment_table, settings_table, settings_toml
from mf_core.config import (
    AlsConfig,
    Config,
    SplitConfig,
    load_config,
    make_config,
    settings,
)
from mf_core.errors import ConfigError


def test_every_setting_has_a_description_and_a_type() -> None:
    found = list(settings())

    assert len(found) > 50

    for setting in found:
        assert setting.description.endswith((".", ")")), setting.name
        assert "type" in setting.schema or "anyOf" in setting.schema, setting.name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"rating_head.als.n_factors": 0}, "rating_head.als.n_factors"),
        ({"rating_head.als.n_factor": 8}, "there is no setting 'rating_head.als.n_factor'"),
        ({"rating_head.als": 8}, "there is no setting"),
        ({"nonsense": 1}, "there is no setting"),
        ({"split.test_fraction": 1.0}, "split.test_fraction"),
        ({"gate.max_rmse": math.nan}, "gate.max_rmse"),
        ({"data.scale_low": 5}, "must be below data.scale_high"),
        ({"data.relevant_from": 6}, "must lie in 1.0..5.0"),
        ({"recommend.rank_by": "price"}, "recommend.rank_by"),
        ({"source.sha256": "abc"}, "source.sha256"),
        (
            {"rating_head.als.n_factors": "9999"},
            "rating_head.als.n_factors: expected integer from 1 to 512, got '9999'",
        ),
        ({"rating_head.als.n_factors": "many"}, "expected integer from 1 to 512, got 'many'"),
        ({"split.test_fraction": "1"}, "split.test_fraction: expected number above 0 below 1"),
        ({"gate.max_rmse": -1}, "gate.max_rmse: expected number above 0, or empty, got -1"),
    ],
)
def test_a_bad_setting_is_refused_by_name(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(overrides)


SEED = {"rating_head.solver": "gradient", "rating_head.gradient.preset": "seed"}
WRONG_TOGETHER: list[tuple[dict[str, object], list[str]]] = [
    (
        {"rating_head.bayes.sweeps": 120, "rating_head.bayes.burn_in": 100},
        ["rating_head.bayes.burn_in 100", "half of rating_head.bayes.sweeps 120"],
    ),
    ({**SEED, "rating_head.gradient.n_factors": 64}, ["preset is seed", "gradient.n_factors"]),
    ({**SEED, "rating_head.gradient.epochs": 7}, ["preset is seed", "gradient.epochs"]),
    ({**SEED, "rating_head.gradient.batch_size": 7}, ["preset is seed", "gradient.batch_size"]),
    (
        {"rating_head.bayes.side_information": True, "rating_head.solver": "als"},
        ["rating_head.bayes.side_information is on", "rating_head.solver is als"],
    ),
    (
        {"train.warm_start": True, "split.protocol": "temporal"},
        ["train.warm_start is on", "split.protocol is temporal"],
    ),
    (
        {"train.warm_start": True, "rating_head.solver": "gradient"},
        ["train.warm_start is on", "rating_head.solver is gradient"],
    ),
    ({"gate.cutoff": 21}, ["gate.cutoff 21", "20 rows", "recommend.top_n + recommend.reserve"]),
    ({"source.uri": "sql"}, ["source.query is empty", "source.uri is sql"]),
    ({"source.query": "SELECT 1"}, ["source.query is set", "source.uri is 'ml-100k'"]),
]


@pytest.mark.parametrize(("overrides", "said"), WRONG_TOGETHER, ids=lambda it: "+".join(it))
def test_settings_that_contradict_each_other_are_refused_by_name(
    overrides: dict[str, object], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_config(overrides)

    for words in said:
        assert words in str(refusal.value)
    assert "Value error" not in str(refusal.value)


def test_the_number_of_burn_in_sweeps_that_is_set_is_the_number_that_is_run() -> None:
    settings = make_config(
        {"rating_head.bayes.sweeps": 120, "rating_head.bayes.burn_in": 60}
    ).rating_head.bayes

    assert settings.burn_in_iterations(settings.iteration_limit()) == 60
    # A refit runs as many sweeps as the evaluated fit ended with; nobody has set those.
    assert settings.burn_in_iterations(20) == 10


def test_bounds_stand_in_the_help_of_every_setting_that_has_some() -> None:
    found = {setting.name: setting for setting in settings()}

    assert "Takes: integer from 1 to 512." in found["rating_head.als.n_factors"].help()
    assert "Counts with rating_head.solver=als only." in found["rating_head.als.n_factors"].help()
    assert "Takes: integer from 0 to 2147483647." in found["split.seed"].help()
    assert "Takes: number above 0, or empty." in found["gate.max_rmse"].help()
    assert "Takes: text of 1 to 2000 characters." in found["source.uri"].help()
    for setting in found.values():
        for limit in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if limit in setting.schema:
                assert f" {setting.schema[limit]:.10g}" in setting.help(), setting.name


def test_whoever_may_leave_a_setting_empty_is_told_what_that_means() -> None:
    for setting in settings():
        may_be_empty = "anyOf" in setting.schema or (
            setting.schema.get("type") == "string"
            and not setting.schema.get("minLength")
            and "enum" not in setting.schema
        )
        assert not may_be_empty or "empty" in setting.description.lower(), setting.name


def test_text_from_the_command_line_is_understood() -> None:
    config = make_config(
        {
            "rating_head.als.n_factors": "8",
            "publish.refit": "false",
            "gate.max_rmse": "0.9",
            "source.uri": "sql",
            "source.query": "1",
        }
    )

    assert config.rating_head.als.n_factors == 8
    assert config.publish.refit is False
    assert config.gate.max_rmse == 0.9
    assert config.source.query == "1"


def test_an_empty_value_takes_an_optional_setting_back() -> None:
    limited = make_config({"gate.max_rmse": 0.9})
    unlimited = make_config({"gate.max_rmse": ""}, limited)

    assert unlimited.gate.max_rmse is None


def test_the_printed_settings_are_a_settings_file(tmp_path: Path) -> None:
    config = make_config({"split.seed": 3, "source.delimiter": "\t", "recommend.rank_by": "rating"})
    path = tmp_path / "mf.toml"
    path.write_text(settings_toml(config))

    assert load_config(path) == config
    assert tomllib.loads(path.read_text())["split"]["seed"] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[split", "not valid TOML"),
        ("[split]\nsed = 1", "split.sed"),
        ("[split]\nseed = -1", "split.seed"),
    ],
)
def test_a_bad_settings_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mf.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_missing_settings_file_is_refused_and_none_means_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "no.toml")
    assert load_config(None) == load_config("") == Config()


def fingerprint(**overrides: object) -> str:
    """Return the fingerprint of what shapes models and lists; `a__b` stands for `a.b`."""
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    config = make_config(named)

    return config.fingerprint("model", "lists")


def test_the_fingerprint_follows_what_shapes_the_result() -> None:
    base = Config().training_fingerprint()
    unshaped = make_config(
        {
            "source.uri": "x",
            "run.force": True,
            "train.checkpoint_seconds": 1,
        }
    )
    shaped = make_config({"rating_head.bayes.n_factors": 9})

    assert unshaped.training_fingerprint() == base
    assert shaped.training_fingerprint() != base
    assert Config().fingerprint("model", "lists") == base
    assert Config().fingerprint("lists", "model") == base


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recommend__tile_mib", 32),
        ("recommend__shards", 3),
        ("publish__keep_versions", 9),
        ("train__device", "cpu"),
        ("gate__max_rmse_loss", 0.5),
        ("gate__max_rmse", 0.9),
        ("publish__min_coverage", 0.1),
        ("data__min_ratings", 5),
        ("rating_head__als__n_factors", 9),
    ],
)
def test_what_shapes_neither_model_nor_lists_leaves_their_fingerprint(
    name: str, value: object
) -> None:
    changed = fingerprint(**{name: value})

    assert changed == fingerprint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rating_head__bayes__n_factors", 9),
        ("ranking_head__n_factors", 9),
        ("rating_head__solver", "als"),
        ("train__seed", 1),
        ("split__seed", 1),
        ("data__relevant_from", 3),
        ("recommend__top_n", 9),
        ("publish__refit", False),
    ],
)
def test_what_shapes_the_model_or_the_lists_changes_their_fingerprint(
    name: str, value: object
) -> None:
    changed = fingerprint(**{name: value})

    assert changed != fingerprint()


def test_the_settings_of_the_chosen_solver_alone_shape_something() -> None:
    config = make_config({"rating_head.solver": "als"})
    chosen = config.shaping("model")
    of_others = [name for name in chosen if name.startswith("rating_head.bayes.")]

    assert chosen["rating_head.als.n_factors"] == AlsConfig().n_factors
    assert of_others == []
    assert "rating_head.patience" in chosen
    assert "recommend.top_n" not in chosen

    verdict = set(Config().shaping("verdict"))
    assert {"gate.cutoff", "publish.min_coverage", "data.min_users"} <= verdict


def test_every_field_says_what_it_shapes_and_a_field_that_does_not_is_refused() -> None:
    assert {found.shapes for found in settings()} == {"model", "lists", "verdict", "nothing"}
    assert not any("shapes" in found.schema for found in settings())

    class Careless(SplitConfig):
        left_out: int = Field(1, description="Does not say what it shapes.")

    class WithCareless(Config):
        split: SplitConfig = Careless()

    with pytest.raises(TypeError, match=r"the setting split\.left_out does not say what it shapes"):
        list(settings(WithCareless()))


def test_the_settings_page_is_in_step() -> None:
    path = Path(__file__).parents[2] / "docs" / "config.md"
    page = path.read_text()

    assert settings_table(Config()) in page, "run `make docs`"
    assert deployment_table() in page, "run `make docs`"
