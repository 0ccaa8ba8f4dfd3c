"""Run as a script: start Airflow's web application here, and print what it has of the console."""

import asyncio
import json
from typing import Any

import httpx
from airflow import plugins_manager
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.utils.db import initdb

PAGES = ("/mf/", "/mf/console.js", "/mf/console.css")


def registered() -> list[dict[str, str]]:
    """Return the place and the source of each plugin of the console."""
    plugins, _ = plugins_manager._get_plugins()
    return [
        {"module": type(plugin).__module__, "source": str(plugin.source)}
        for plugin in plugins
        if plugin.name == "mf_console"
    ]


async def pages() -> dict[str, str]:
    """Return the text of each page and static file, as a person who may look gets it."""
    transport = httpx.ASGITransport(create_app())
    viewer = SimpleAuthManagerUser(username="ada", role="viewer")
    headers = {"Authorization": f"Bearer {get_auth_manager().generate_jwt(viewer)}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = {path: await client.get(path, headers=headers) for path in PAGES}
    return {path: answer.text for path, answer in answers.items() if answer.status_code == 200}


def findings() -> dict[str, Any]:
    """Return all that the tests look at."""
    external_views, _ = plugins_manager._get_ui_plugins()
    served = asyncio.run(pages())
    import mf_console.app

    return {
        "registered": registered(),
        "import_errors": plugins_manager.get_import_errors(),
        "views": [view["href"] for view in external_views],
        "pages": served,
        "static": str(mf_console.app.STATIC),
    }


if __name__ == "__main__":
    initdb()
    print(json.dumps(findings()))
