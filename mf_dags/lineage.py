"""What the tasks read and write, as Airflow's lineage names it: OpenLineage makes data sets of it.

These are Airflow's own entities, which need no provider that knows the scheme of a URI. Secrets of
a URI are not in them, nor the address of the warehouse: its name is that of the connection.
"""

from pathlib import Path

from airflow.providers.common.compat.lineage.entities import File, Table
from airflow.sdk import get_current_context

from mf_core.catalogue import Catalogue
from mf_core.config import Config, SourceConfig, uris_in
from mf_core.redaction import redacted
from mf_core.sources.demo import ML100K_URL
from mf_core.sources.reach import DEMO_URI, SQL_URI


def table(catalogue: Catalogue, name: str) -> Table:
    """Return a table or view of a catalogue."""
    return Table(
        cluster=f"postgres://{catalogue.named('mf_warehouse')}:5432",
        database="warehouse",
        name=f"{catalogue.schema}.{name}",
    )


def inputs_of(source: SourceConfig) -> list[File]:
    """Return the files that a source of ratings is made of; of a query, its database."""
    places = [source.uri, source.test_uri, source.items_uri, source.users_uri]
    uris = [uri for place in places if place for uri in uris_in(place)]
    return [File(url=_url(uri, source)) for uri in uris]


def name_inputs(config: Config) -> None:
    """Let the task that runs name what it reads: a trigger may have said another source."""
    get_current_context()["task"].inlets = inputs_of(config.source)


def _url(uri: str, source: SourceConfig) -> str:
    if uri == DEMO_URI:
        return ML100K_URL
    if uri == SQL_URI:
        return f"sql://{source.connection or source.database_url_env}"
    return redacted(uri) if "://" in uri else Path(uri).absolute().as_uri()
