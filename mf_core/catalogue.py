"""What a catalogue of items is called, wherever it has a name: one rule for all of them.

One Airflow and one Postgres can hold several catalogues (films, books), each with a schema, roles,
DAGs and artifacts of its own. The default catalogue has no name, and everything of it is called as
if there were no other: the schema `mf`, the role `mf_reader`, the DAG `mf_retrain`. Of a catalogue
`films` these are `mf_films`, `mf_reader_films` and `mf_retrain_films`.
"""

import re
from dataclasses import dataclass

from mf_core.errors import ConfigError

# Postgres cuts identifiers at 63 bytes; the longest name that one is appended to has 20.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

# The schema `mf_tune` holds the studies of the default catalogue.
_TAKEN = "tune"

TAG = "mf-catalogue:"
"""How the tag begins by which a DAG names its catalogue."""


@dataclass(frozen=True)
class Catalogue:
    """A catalogue, by its name; the default one has none.

    Raises:
        ConfigError: the name can't be one.
    """

    name: str = ""

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"the catalogue {self.name!r:.60} can't be called so: expected a small letter, and "
                "then up to 39 small letters, digits and underscores."
            )
        if self.name == _TAKEN or self.name.startswith(f"{_TAKEN}_"):
            raise ConfigError(
                f"the catalogue {self.name!r} can't be called so, as the schema mf_tune is that of "
                "the studies of `mf tune`. Choose a name that does not start with `tune`."
            )

    def named(self, base: str) -> str:
        """Return what this catalogue's `base` is called: of films, `mf_reader_films`."""
        return f"{base}_{self.name}" if self.name else base

    def variable(self, base: str) -> str:
        """Return the environment variable of this catalogue: of films, `MF_DATABASE_URL_FILMS`."""
        return f"{base}_{self.name.upper()}" if self.name else base

    def command(self, words: str) -> str:
        """Return the `mf` command that works on this catalogue: `mf --catalogue films status`."""
        return f"mf --catalogue {self.name} {words}" if self.name else f"mf {words}"

    @property
    def schema(self) -> str:
        """The schema of its tables, in the warehouse."""
        return self.named("mf")

    @property
    def tune_schema(self) -> str:
        """The schema of the studies of `mf tune`."""
        return self.named("mf_tune")

    @property
    def retrain_id(self) -> str:
        """The id of the DAG that trains; who may see its runs may see the console's pages."""
        return self.named("mf_retrain")

    @property
    def tags(self) -> list[str]:
        """The tag by which the console finds a named catalogue; none of the default one."""
        return [f"{TAG}{self.name}"] if self.name else []

    def artifacts(self, root: str) -> str:
        """Return the URI under which its snapshots and models lie, given the common one."""
        root = root.rstrip("/")
        return f"{root}/{self.schema}" if self.name else root


DEFAULT = Catalogue()
