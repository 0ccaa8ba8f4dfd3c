"""The settings file: named sources, what a trigger may reach, limits; files that are no TOML."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mf_core.cli import cli
from mf_core.config import load_config, make_config
from mf_core.deployment import Limits, TriggerRules, load_deployment
from mf_core.errors import ConfigError

FILE = """
[source]
uri = "https://me:hush@files.example.org/r.csv?sig=hush"
user_column = "who"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[recommend]
top_n = 25

[sources.shop]
uri = "s3://bucket/shop.csv"
items_uri = "s3://bucket/items.csv"

[sources."the web"]
uri = "https://me:hush@host/r.csv"
user_column = "person"

[trigger]
roots = ["/data/uploads"]
schemes = ["https"]
hosts = ["*", "files.internal:8080"]
connections = ["replica"]

[limits]
max_gib = 2
stall_seconds = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file with all of it."""
    path = tmp_path / "mf.toml"
    path.write_text(FILE)
    return path


def test_the_file_says_sources_rules_and_limits(file: Path) -> None:
    deployment = load_deployment(file)
    assert deployment.config == load_config(file)
    assert deployment.config.recommend.top_n == 25
    assert set(deployment.sources) == {"shop", "the web"}
    assert deployment.trigger.hosts == ("*", "files.internal:8080")
    assert deployment.limits == Limits(max_gib=2, stall_seconds=5)
    assert deployment.limits.max_bytes == 2 << 30

    shipped = load_deployment(None)
    assert shipped == load_deployment("")
    assert shipped.trigger == TriggerRules(roots=(), schemes=(), hosts=(), connections=())


def test_a_named_source_says_where_and_the_rest_how(file: Path) -> None:
    deployment = load_deployment(file)
    base = deployment.config
    shop = deployment.with_named_source(make_config({"source.name": "shop"}, base)).source

    assert (shop.name, shop.uri, shop.items_uri) == (
        "shop",
        "s3://bucket/shop.csv",
        "s3://bucket/items.csv",
    )
    # How files are read is common to all; where they are, and their checksum, is not.
    assert (shop.user_column, shop.sha256, shop.users_uri) == ("who", "", "")

    wanted = make_config({"source.name": "the web", "source.chunk_rows": 1000}, base)
    web = deployment.with_named_source(wanted)
    assert (web.source.user_column, web.source.chunk_rows) == ("person", 1000)
    assert deployment.with_named_source(web) == web
    assert deployment.with_named_source(base) == base


def test_a_name_and_a_place_beside_it_are_refused(file: Path) -> None:
    deployment = load_deployment(file)
    both = make_config({"source.name": "shop", "source.uri": "/etc/passwd"}, deployment.config)
    with pytest.raises(ConfigError, match=r"leave source\.uri as it is"):
        deployment.with_named_source(both)

    unknown = make_config({"source.name": "nobody"}, deployment.config)
    with pytest.raises(ConfigError, match=r"no such source; there is shop, the web"):
        deployment.with_named_source(unknown)


def test_what_the_form_hides_comes_back_and_nothing_else(file: Path) -> None:
    deployment = load_deployment(file)
    shown = {"source.uri": "https://***@files.example.org/r.csv?***", "source.test_uri": ""}
    assert deployment.from_form(shown)["source.uri"] == deployment.config.source.uri
    other = {"source.uri": "https://***@host/r.csv"}
    assert deployment.from_form(other) == other


def test_the_command_line_takes_a_source_by_name(file: Path) -> None:
    shown = CliRunner().invoke(cli, ["config", "--config", str(file), "--set", "source.name=shop"])
    assert shown.exit_code == 0, shown.output
    assert 'uri = "s3://bucket/shop.csv"' in shown.output
    assert 'user_column = "who"' in shown.output

    refused = CliRunner().invoke(cli, ["config", "--config", str(file), "--set", "source.name=x"])
    assert isinstance(refused.exception, ConfigError)


def test_several_files_lie_over_each_other(file: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.toml"
    later.write_text(
        '[sources.demo]\nuri = "/r.csv"\n[recommend]\ntop_n = 7\n[limits]\nmax_gib = 3'
    )
    both = load_deployment(os.pathsep.join([str(file), str(later)]))
    assert set(both.sources) == {"shop", "the web", "demo"}
    assert both.config.recommend.top_n == 7
    assert both.config.source.user_column == "who"
    assert both.limits == Limits(max_gib=3, stall_seconds=5)


BROKEN = {
    "[trigger]\nroot = []": "trigger.root: there is no such setting",
    '[trigger]\nroots = "/"': "trigger.roots",
    "[limits]\nmax_gib = 0": "limits.max_gib",
    "[sources]\nshop = 3": "sources.shop",
    "sources = 3": "expected tables",
    '[sources.shop]\nname = "x"': "sources.shop",
    '[sources.shop]\npath = "x"': "sources.shop.path",
    '[source]\nuri = "x"\nuri = "y"': "not valid TOML",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_wrong_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mf.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as refusal:
        load_deployment(path)
    assert str(path) in str(refusal.value)
    assert BROKEN[content] in str(refusal.value)


def test_a_file_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "mf.toml"
    path.write_bytes('[source]\nuser_column = "Mär"'.encode("latin-1"))
    for load in (load_config, load_deployment):
        with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 26\); save it as UTF-8"):
            load(path)
        with pytest.raises(ConfigError, match="can't be read"):
            load(tmp_path)
        with pytest.raises(ConfigError, match="no path to a file"):
            load("a\0b")


def test_no_secret_of_a_setting_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "mf.toml"
    path.write_text('[sources.shop]\nuri = ["https://me:hush@h/x?sig=hush"]')
    with pytest.raises(ConfigError) as refusal:
        load_deployment(path)
    assert "hush" not in str(refusal.value)
