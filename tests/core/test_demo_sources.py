"""The launcher: sources by name for the person at the machine, and a password for each user."""

import json
import os
from pathlib import Path

import pytest

from demo.layout import REPOSITORY, Layout
from demo.run import run_conf
from demo.settings import ROLES, component_environment, load_secrets, write_private
from demo.sources import by_name, forget_sources
from mf_core.config import make_config
from mf_core.deployment import load_deployment
from mf_core.sources.reach import Reach


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A stack's folders."""
    return Layout(REPOSITORY, tmp_path / "var")


def _environment(layout: Layout, **inherited: str) -> dict[str, str]:
    return component_environment(
        layout,
        8080,
        metadata_url="postgresql://m",
        warehouse_url="postgresql://w",
        console_url="postgresql://c",
        inherited=inherited,
    )


def test_ratings_of_the_person_at_the_machine_are_the_operators(
    layout: Layout, tmp_path: Path
) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('[source]\nuser_column = "who"\n')
    ratings = 'sftp://me:pass"word\\@höst/r.csv'
    settings = "source.delimiter=; source.chunk_rows=2000 data.scale_high=10"
    conf = by_name(layout, run_conf(ratings, settings))
    assert [name for name in conf if name.startswith("source.")] == ["source.name"]
    assert conf["data.scale_high"] == 10

    # As a task finds it.
    deployment = load_deployment(_environment(layout, MF_CONFIG=str(own))["MF_CONFIG"])
    config = deployment.with_named_source(make_config(conf, deployment.config))
    assert (config.source.uri, config.source.delimiter) == (ratings, ";")
    assert (config.source.chunk_rows, config.source.user_column) == (2000, "who")
    Reach(deployment, by_trigger=True).judge(config)
    assert layout.sources_file.stat().st_mode & 0o077 == 0


def test_sources_stay_until_the_next_stack(layout: Layout) -> None:
    first = by_name(layout, run_conf("s3://bucket/a.csv"))
    second = by_name(layout, run_conf("s3://bucket/b.csv"))
    assert by_name(layout, run_conf("s3://bucket/a.csv")) == first
    assert set(load_deployment(layout.sources_file).sources) == {
        first["source.name"],
        second["source.name"],
    }
    forget_sources(layout)
    assert load_deployment(layout.sources_file).sources == {}


def test_the_demo_and_named_sources_are_triggered_as_they_are(layout: Layout) -> None:
    assert by_name(layout, run_conf("")) == {**run_conf(""), "source.name": ""}
    mine = run_conf("", "source.name=shop")
    assert mine["source.name"] == "shop"
    assert "source.uri" not in mine
    assert by_name(layout, mine) == mine
    assert not layout.sources_file.exists()


def test_the_settings_file_of_the_user_comes_first(layout: Layout, tmp_path: Path) -> None:
    alone = _environment(layout)["MF_CONFIG"]
    assert alone == str(layout.sources_file)
    own = os.path.relpath(tmp_path / "mine.toml")
    both = _environment(layout, MF_CONFIG=own)["MF_CONFIG"]
    assert both.split(os.pathsep) == [str(tmp_path / "mine.toml"), alone]


def test_each_user_has_a_password_and_a_role(layout: Layout) -> None:
    made = load_secrets(layout)
    assert set(made.passwords) == set(ROLES) == {"admin", "operator", "user", "viewer"}
    assert len(set(made.passwords.values())) == len(ROLES)
    assert load_secrets(layout) == made
    users = _environment(layout)["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert users == "admin:admin,operator:op,user:user,viewer:viewer"


def test_secrets_of_an_earlier_release_are_kept(layout: Layout) -> None:
    old = {
        "admin_password": "old",
        "fernet_key": "f",
        "api_secret_key": "a",
        "jwt_secret": "j",
    }
    write_private(layout.secrets_file, json.dumps(old))
    found = load_secrets(layout)
    assert found.passwords["admin"] == "old"
    assert (found.fernet_key, found.api_secret_key, found.jwt_secret) == ("f", "a", "j")
    assert load_secrets(layout) == found
