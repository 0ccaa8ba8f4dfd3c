"""Which catalogue a DAG is of, where its settings lie, and what it announces.

A task and a callback know the id of their DAG. Airflow has read the DAG's file in the same process
before, so that what the factory was told there can be looked up by that id.
"""

import os
from dataclasses import dataclass

from airflow.sdk import Asset, get_current_context

from mf_core.catalogue import Catalogue


@dataclass(frozen=True)
class Site:
    """A catalogue in this Airflow.

    Attributes:
        catalogue: the catalogue.
        config: its settings file, or several parted as in PATH; "": that which the environment
            names (MF_CONFIG, of films MF_CONFIG_FILMS).
        problem: what was wrong with a setting when the DAG file was read; "": nothing.
    """

    catalogue: Catalogue
    config: str = ""
    problem: str = ""

    @property
    def settings_file(self) -> str:
        """The settings file in force; "" for none."""
        return self.config or os.environ.get(self.catalogue.variable("MF_CONFIG"), "")

    @property
    def retrain_id(self) -> str:
        """The id of the DAG that trains."""
        return self.catalogue.retrain_id

    @property
    def rollback_id(self) -> str:
        """The id of the DAG that goes back."""
        return self.catalogue.named("mf_rollback")

    @property
    def tags(self) -> list[str]:
        """The tags of its DAGs."""
        return ["matrix-factorization", *self.catalogue.tags]

    @property
    def recommendations(self) -> Asset:
        """The asset that a publication and a rollback announce.

        Its URI is a logical name. The host is the id of the Airflow connection, so that the UI
        shows nothing of the real address.
        """
        warehouse = self.catalogue.named("mf_warehouse")
        return Asset(
            name=self.catalogue.named("mf_recommendations"),
            uri=f"postgres://{warehouse}/warehouse/{self.catalogue.schema}/recommendations",
        )


_SITES: dict[str, Site] = {}


def register(site: Site) -> None:
    """Let the tasks of a site's DAGs find it."""
    _SITES[site.retrain_id] = _SITES[site.rollback_id] = site


def site_of(dag_id: str) -> Site:
    """Return the site of one of its DAGs, which the factory made. Raises KeyError."""
    return _SITES[dag_id]


def current_site() -> Site:
    """Return the site of the task that runs."""
    return site_of(get_current_context()["dag"].dag_id)
