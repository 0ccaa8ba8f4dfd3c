"""What a DAG says of itself in the UI: a Markdown file of this package, with its own names."""

from importlib.resources import files
from string import Template

from mf_dags.sites import Site
from mf_dags.training import Training


def triage(page: str, site: Site, training: Training) -> str:
    """Return `page` (`retrain` or `rollback`) with the names of the site's schema and DAGs."""
    text = files("mf_dags").joinpath(f"{page}.md").read_text(encoding="utf-8")
    told = Template(text).substitute(
        schema=site.catalogue.schema,
        retrain=site.retrain_id,
        rollback=site.rollback_id,
        history=site.catalogue.command("history"),
        training=training.sentence(),
    )
    return f"{_warning(site)}{told}" if page == "retrain" else told


def _warning(site: Site) -> str:
    """Return what keeps nights from running, as the beginning of a page."""
    if not site.problem:
        return ""
    # Indented, it is shown as it stands, whatever a setting holds.
    problem = " ".join(site.problem.split())
    says = "**No night runs before this is mended; the task `start` refuses it.**"
    return f"{says}\n\n    {problem}\n\n"
