"""What the operator of a deployment says once, and a run's settings can't change.

It stands in the file that `MF_CONFIG` names, beside the settings of a run: named sources
(`[sources.NAME]`), what a person who may only trigger the DAG may make it reach (`[trigger]`), and
how much is read (`[limits]`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field

from mf_core.config import (
    DEPLOYMENT_SECTIONS,
    REACHING,
    SOURCE_URIS,
    Config,
    Section,
    SourceConfig,
    make_config,
    read_settings_file,
    validated,
)
from mf_core.errors import ConfigError
from mf_core.redaction import redacted

EVERY_PUBLIC_HOST = "*"
_GIB = 1 << 30
_SHOWN_NAMES = 10


class TriggerRules(Section):
    """What `source.*` settings of a trigger may name. Without an entry: nothing but `ml-100k`."""

    roots: tuple[str, ...] = Field(
        (),
        description="Folders whose files a trigger may name. Links and `..` are followed before a "
        "file is judged.",
    )
    schemes: tuple[str, ...] = Field(
        (), description="Schemes of URIs that a trigger may name, such as `https` or `s3`."
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (`files.example.org`, `10.0.0.7:8080`) or buckets that a trigger may "
        "name under these schemes. `*`, for http and https: every host whose address is public.",
    )
    connections: tuple[str, ...] = Field(
        (),
        description="Airflow connections that a trigger may name: to Postgres, for `source.query`, "
        "or to a store, for the buckets in `hosts`. They should be able to read only what "
        "everybody who may trigger may read.",
    )


class Limits(Section):
    """How much of a source is read, and how long is waited for it; whoever named it."""

    max_gib: float = Field(
        64, gt=0, description="Most GiB that one source may be when it is fetched and unpacked."
    )
    max_ratio: float = Field(
        200,
        gt=1,
        description="Unpacked, a file may be so many times as large as packed (from 64 MiB on).",
    )
    stall_seconds: float = Field(
        60,
        gt=0,
        le=86_400,
        description="A remote source that sends nothing for so long is given up.",
    )
    query_seconds: float = Field(
        3_600, gt=0, le=86_400, description="`source.query` is ended after so long."
    )

    @property
    def max_bytes(self) -> int:
        """The largest size of a source in bytes."""
        return int(self.max_gib * _GIB)


@dataclass(frozen=True)
class Deployment:
    """What the settings file says.

    Attributes:
        config: the settings of a run, where a trigger or the command line says nothing else.
        sources: the named sources.
        trigger: what a trigger may reach.
        limits: how much is read.
    """

    config: Config = field(default_factory=Config)
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    trigger: TriggerRules = field(default_factory=TriggerRules)
    limits: Limits = field(default_factory=Limits)

    def with_named_source(self, config: Config) -> Config:
        """Return `config` with the settings of the source that `source.name` names, if any.

        What `config` says of how a file is read (its columns, its separator) wins over the named
        source.

        Raises:
            ConfigError: there is no such source, or `config` also says where another one is.
        """
        name = config.source.name
        if not name:
            return config
        named = self._named(name)

        own = self.config.source
        values = {}
        for setting in SourceConfig.model_fields:
            wanted = getattr(config.source, setting)
            said = wanted != getattr(own, setting)
            if said and setting in REACHING and wanted != getattr(named, setting):
                raise ConfigError(
                    f"source.name = {name} says already what source.{setting} is; leave "
                    f"source.{setting} as it is, or source.name empty."
                )
            values[f"source.{setting}"] = wanted if said else getattr(named, setting)
        return make_config({**values, "source.name": name}, config)

    def operators_own(self, source: SourceConfig) -> SourceConfig:
        """Return what the operator says of the source that `source` names, or of `[source]`."""
        return self._named(source.name) if source.name else self.config.source

    def from_form(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a trigger form with the secrets that `shown_default` has hidden."""
        revealed = dict(values)
        for setting in SOURCE_URIS:
            own = getattr(self.config.source, setting)
            if revealed.get(f"source.{setting}") == redacted(own):
                revealed[f"source.{setting}"] = own
        return revealed

    def _named(self, name: str) -> SourceConfig:
        if name in self.sources:
            return self.sources[name]
        _no_such_source(name, list(self.sources))


def shown_default(setting: str, value: Any) -> Any:
    """Return a setting's default as a trigger form may show it: without the secrets of a URI."""
    section, _, name = setting.rpartition(".")
    return redacted(value) if section == "source" and name in SOURCE_URIS else value


def _no_such_source(name: str, known: list[str]) -> NoReturn:
    listing = ", ".join(sorted(known)[:_SHOWN_NAMES]) or "none"
    raise ConfigError(
        f"source.name = {name!r:.100}: the settings file (MF_CONFIG) describes no such source; "
        f"there is {listing}. The operator adds one as [sources.NAME]."
    )


def load_deployment(path: str | Path | None) -> Deployment:
    """Return what the settings file says; the shipped defaults for None or "".

    Raises:
        ConfigError: the file can't be read, or holds an unknown name or a value out of its bounds.
    """
    nested = read_settings_file(path)
    where = f"in the settings file {path}: "
    of_run = {name: nested[name] for name in nested if name not in DEPLOYMENT_SECTIONS}
    config = validated(Config, of_run, where)
    return Deployment(
        config=config,
        sources=_sources(nested.get("sources", {}), config.source, where),
        trigger=validated(TriggerRules, nested.get("trigger", {}), f"{where}trigger."),
        limits=validated(Limits, nested.get("limits", {}), f"{where}limits."),
    )


def _sources(tables: Any, base: SourceConfig, where: str) -> dict[str, SourceConfig]:
    """Return the named sources; what a table does not say is as `[source]` has it."""
    if not isinstance(tables, dict):
        raise ConfigError(f"{where}expected tables [sources.NAME], got sources = {tables!r:.80}.")

    named = {}
    for name, table in tables.items():
        at = f"{where}sources.{name}."
        if not isinstance(table, dict) or "name" in table:
            raise ConfigError(f"{at} expected a table of the settings of section `source`.")
        # Where the base is, a named source is not: only how files are read is common to them.
        reading = base.model_dump(exclude={*REACHING, "name", "sha256"})
        named[name] = validated(SourceConfig, {**reading, **table}, at)
    return named
