"""Whether the settings of a source go with what it holds: ratings or events."""

from mf_core.config import Config, SourceConfig
from mf_core.errors import ConfigError


def require_kind_fits(config: Config) -> None:
    """Make sure that columns of events are named for events, and their types with weights.

    It is looked at here, and not where settings are read: only now `source.name` has been followed.

    Raises:
        ConfigError: the message names the settings.
    """
    source = config.source
    if config.data.kind == "events":
        _require_all_events(source)
    if config.data.kind == "ratings":
        if named := source.event_column or source.weight_column:
            raise ConfigError(
                f"the source names a column of events ({named}), but data.kind is ratings; set "
                "data.kind=events, or empty source.event_column and source.weight_column."
            )
    elif source.event_column and not config.data.event_weights:
        raise ConfigError(
            f"source.event_column is {source.event_column}, but data.event_weights is empty; say "
            "what each type counts, such as `purchase=1, view=.2`, or `*=1` for all alike."
        )
    elif config.data.event_weights and not source.event_column:
        raise ConfigError(
            "data.event_weights is set, but source.event_column is empty, so each event would "
            "count 1; name the column that holds the types, or empty data.event_weights."
        )


def _require_all_events(source: SourceConfig) -> None:
    """Refuse what would load some events of a source again, which would count twice or go.

    Raises ConfigError.
    """
    if source.watermark_column:
        raise ConfigError(
            "source.watermark_column is set, but data.kind is events: what a source brings takes "
            "the place of what it brought before, so it has to bring all. Empty it; a query for "
            "the new events alone goes with data.ingest_mode=add."
        )
    if source.reload:
        raise ConfigError(
            "source.reload is on, but data.kind is events, which would count twice. Load all of "
            "them anew with data.ingest_mode=replace."
        )
