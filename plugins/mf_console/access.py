"""Which catalogues there are, and who may see which.

Who may see the runs of a catalogue's DAG may see its pages. Nobody else learns a thing of it: not
even whether there is one of that name.

Annotations must stay real objects here: FastAPI reads them, to know what to check.
"""

import logging
import os
from typing import Annotated

import sqlalchemy as sa
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel, DagTag
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Request

from mf_core.catalogue import DEFAULT, TAG, Catalogue
from mf_core.errors import ConfigError

VARIABLE = "MF_CATALOGUES"
"""Names of catalogues, separated by commas, beside those whose DAGs have a tag."""

_log = logging.getLogger(__name__)


def catalogue_of(request: Request) -> Catalogue:
    """Return the catalogue that a request asks for. Raises HTTPException where none can be so."""
    try:
        return Catalogue(request.path_params.get("catalogue", ""))
    except ConfigError:
        raise HTTPException(403, "Forbidden") from None


def may_read(request: Request, user: GetUserDep) -> Catalogue:
    """Return the catalogue a request asks for. Raises HTTPException if it is not for the user."""
    catalogue = catalogue_of(request)
    access = requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=catalogue.retrain_id)
    access(request, user)
    return catalogue


def readable(request: Request, user: GetUserDep) -> list[Catalogue]:
    """Return the catalogues that the user may see; an HTTPException if there is none."""
    found = []
    for catalogue in _known():
        asked = Request({**request.scope, "path_params": {"catalogue": catalogue.name}})
        try:
            found.append(may_read(asked, user))
        except HTTPException as refusal:
            if refusal.status_code != 403:
                raise
    if not found:
        raise HTTPException(403, "Forbidden")
    return found


Asked = Annotated[Catalogue, Depends(may_read)]
Readable = Annotated[list[Catalogue], Depends(readable)]


def _known() -> list[Catalogue]:
    """Return the catalogues of the environment and of Airflow's DAGs, the default one first."""
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    with create_session() as session:
        live = sa.select(DagModel.dag_id).where(~DagModel.is_stale)
        tags = sa.select(DagTag.name).where(DagTag.name.startswith(TAG), DagTag.dag_id.in_(live))
        names |= {tag.removeprefix(TAG) for tag in session.scalars(tags)}
        has_default = session.scalar(live.where(DagModel.dag_id == DEFAULT.retrain_id)) is not None

    found = [DEFAULT] if has_default or not names else []
    for name in sorted(names):
        try:
            found.append(Catalogue(name))
        except ConfigError as error:
            _log.warning("%s or a tag of a DAG names what is no catalogue: %s", VARIABLE, error)
    return found
