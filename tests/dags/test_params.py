"""The trigger form: generated from the settings, with their bounds, and readable by the UI."""

from pathlib import Path
from typing import Any

import pytest

from mf_core.catalogue import DEFAULT
from mf_core.config import Config, load_config, make_config, settings
from mf_core.errors import ConfigError


def _params(config: Config | None = None) -> dict[str, Any]:
    from mf_dags.params import trigger_params

    return trigger_params(config or Config())


def test_the_form_has_every_setting_with_its_default(retrain: Any) -> None:
    assert {name: retrain.params[name] for name in retrain.params} == {
        setting.name: setting.default for setting in settings()
    }


def test_the_forms_own_defaults_make_the_shipped_config() -> None:
    from mf_dags.params import config_from_params

    assert (
        config_from_params({name: param.resolve() for name, param in _params().items()}) == Config()
    )


def test_defaults_come_from_the_settings_file() -> None:
    assert _params(make_config({"recommend.top_n": 25}))["recommend.top_n"].value == 25


def test_the_form_shows_no_secret_and_a_run_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_dags import runtime
    from mf_dags.sites import Site

    uri = "https://me:hush@files.example.org/r.csv?sig=hush"
    file = tmp_path / "mf.toml"
    file.write_text(f'[source]\nuri = "{uri}"\n[sources.shop]\nuri = "s3://bucket/r.csv"\n')
    monkeypatch.setenv("MF_CONFIG", str(file))
    form = {name: param.resolve() for name, param in _params(load_config(file)).items()}
    assert "hush" not in str(form)

    def run_with(**conf: Any) -> Config:
        """Return the settings of a run that was triggered with `conf`."""
        context = {"params": {**form, **conf}}
        monkeypatch.setattr(runtime, "get_current_context", lambda: context)
        monkeypatch.setattr(runtime, "current_site", lambda: Site(DEFAULT))
        config = runtime.run_config()
        runtime.require_allowed_source(config)
        return config

    assert run_with().source.uri == uri
    assert run_with(**{"source.name": "shop"}).source.uri == "s3://bucket/r.csv"
    assert run_with(**{"source.uri": "ml-100k"}).source.uri == "ml-100k"
    for conf in (
        {"source.uri": "/etc/passwd"},
        {"source.items_uri": "/etc/passwd"},
        {"source.uri": "https://files.example.org/r.csv"},
        {"source.uri": "sql", "source.query": "SELECT 1"},
        {"source.name": "shop", "source.uri": "s3://bucket/other.csv"},
        {"source.name": "nobody"},
    ):
        with pytest.raises(ConfigError, match=r"source\.(uri|items_uri|query|name)"):
            run_with(**conf)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("split.test_fraction", 1.0),
        ("recommend.top_n", 0),
        ("rating_head.als.n_factors", 513),
        ("rating_head.solver", "svd"),
        ("gate.max_rmse", 0),
        ("gate.max_rmse", "low"),
        ("rating_head.als.n_factors", "many"),
        ("rating_head.als.n_factors", "8.5"),
        ("rating_head.als.n_factors", ""),
        ("rating_head.als.n_factors", None),
        ("split.test_fraction", "0,3"),
        ("source.uri", ""),
        ("run.dry_run", "yes"),
    ],
)
def test_the_form_refuses_what_the_config_refuses(name: str, bad: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        _params()[name].resolve(bad)
    if bad != "yes":  # the command line has only text
        with pytest.raises(ConfigError):
            make_config({name: bad})


@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [
        ("rating_head.als.n_factors", "64", 64),
        ("gate.max_rmse", "0.9", 0.9),
        ("gate.max_rmse", ".9", 0.9),
        ("gate.max_rmse", None, None),
        ("rating_head.als.regularization", "1e-3", 0.001),
    ],
)
def test_a_number_that_was_typed_is_the_number_that_counts(
    name: str, typed: str | None, meant: float | None
) -> None:
    from mf_dags.params import config_from_params

    taken = _params()[name].resolve(typed)
    found = {
        setting.name: setting.default for setting in settings(config_from_params({name: taken}))
    }
    assert found[name] == meant


def test_a_number_out_of_bounds_that_was_typed_is_refused_and_not_changed() -> None:
    """The form's own number field would turn 9999 into 512, and send that."""
    from mf_dags.params import config_from_params

    typed = _params()["rating_head.als.n_factors"].resolve("9999")
    assert typed == "9999"
    with pytest.raises(ConfigError, match="n_factors: expected integer from 1 to 512, got '9999'"):
        config_from_params({"rating_head.als.n_factors": typed})


def test_no_setting_has_a_field_that_changes_what_is_typed() -> None:
    for name, param in _params().items():
        types = (
            param.schema["type"]
            if isinstance(param.schema["type"], list)
            else [param.schema["type"]]
        )
        # The form takes the first type; with several and no examples, it would read JSON.
        assert types[0] not in ("integer", "number"), name
        if {"integer", "number"} & set(types):
            assert types[0] == "string", name
            assert isinstance(param.schema["examples"], list), name


def test_bounds_stand_in_the_help_of_the_field() -> None:
    described = {name: param.description or "" for name, param in _params().items()}
    assert "Takes: integer from 1 to 512." in described["rating_head.als.n_factors"]
    assert "Takes: number above 0 below 1." in described["split.test_fraction"]
    assert "Takes: number above 0, or empty." in described["gate.max_rmse"]


def test_a_setting_that_may_be_empty_renders_as_its_type() -> None:
    # The form picks the widget by `type`, which pydantic's `anyOf` lacks.
    assert _params()["gate.max_rmse"].schema["type"] == ["string", "number", "null"]
    assert not [name for name, param in _params().items() if "anyOf" in param.schema]


def test_an_empty_text_does_not_make_the_form_incomplete() -> None:
    for name, param in _params().items():
        if param.value == "":
            assert "null" in param.schema["type"], name
            assert param.resolve(None) is None


def test_several_uris_have_a_field_of_several_lines() -> None:
    """A field of one line would run them together."""
    from mf_dags.params import config_from_params

    params = _params(make_config({"source.uri": "s3://a/b\ns3://c/d"}))
    assert params["source.uri"].schema["format"] == "multiline"
    assert params["source.uri"].value == "s3://a/b\ns3://c/d"
    assert config_from_params({"source.uri": "/a\n/b"}).source.uri == "/a\n/b"


def test_sections_group_the_form() -> None:
    sections = {param.schema.get("section") for param in _params().values()}
    assert {
        "Source",
        "Split",
        "Rating head",
        "Rating head: als",
        "Gate",
        "Recommend",
        None,
    } <= sections
    assert [name for name, param in _params().items() if "section" not in param.schema] == [
        "run.dry_run",
        "run.force",
        "run.capacity",
    ]


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (
            "postgres://me:p%40ss@db:5432/warehouse",
            "postgresql+psycopg2://me:p%40ss@db:5432/warehouse",
        ),
        (
            "postgres://me@db/w?sslmode=require&__extra__=%7B%7D",
            "postgresql+psycopg2://me@db/w?sslmode=require",
        ),
    ],
)
def test_an_airflow_connection_becomes_a_sqlalchemy_url(uri: str, url: str) -> None:
    from mf_core.warehouse.address import sqlalchemy_url

    assert sqlalchemy_url(uri) == url
