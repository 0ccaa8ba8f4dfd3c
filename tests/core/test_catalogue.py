"""Every name of a catalogue follows from its own."""

import pytest

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.errors import ConfigError


def test_the_default_catalogue_is_called_as_if_there_were_no_other() -> None:
    assert DEFAULT.schema == "mf"
    assert DEFAULT.tune_schema == "mf_tune"
    assert DEFAULT.named("mf_reader") == "mf_reader"
    assert DEFAULT.variable("MF_DATABASE_URL") == "MF_DATABASE_URL"
    assert DEFAULT.artifacts("s3://bucket/mf/") == "s3://bucket/mf"


def test_another_one_adds_its_name() -> None:
    films = Catalogue("films")
    assert films.schema == "mf_films"
    assert films.tune_schema == "mf_tune_films"
    assert films.named("mf_reader") == "mf_reader_films"
    assert films.variable("MF_DATABASE_URL") == "MF_DATABASE_URL_FILMS"
    assert films.artifacts("s3://bucket/mf/") == "s3://bucket/mf/mf_films"


@pytest.mark.parametrize(
    "name", ["Films", "1st", "_x", "a-b", "a b", 'a"; DROP', "é", "a" * 41, "tune", "tune_x", "a\n"]
)
def test_a_name_that_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be called so"):
        Catalogue(name)
