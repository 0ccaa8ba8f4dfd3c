"""Print what an image holds, as a software bill of materials: CycloneDX 1.5 in JSON.

It runs within the image while that is built, and lists the Python packages and those of Debian.
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from typing import Any


def python_packages() -> list[dict[str, Any]]:
    """Return a component for each installed Python package."""
    components = {}
    for package in importlib.metadata.distributions():
        name, version = package.metadata["Name"], package.version
        component = _component(
            name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        )
        if "License-Expression" in package.metadata:
            component["licenses"] = [{"expression": package.metadata["License-Expression"]}]
        components[component["purl"]] = component
    return sorted(components.values(), key=lambda component: component["purl"])


def debian_packages() -> list[dict[str, Any]]:
    """Return a component for each installed package of Debian; none on another system."""
    if shutil.which("dpkg-query") is None:
        return []
    form = "${Package} ${Version} ${Architecture}\n"
    command = ["dpkg-query", "--show", f"--showformat={form}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    components = []
    for line in sorted(listed.splitlines()):
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={architecture}"
        components.append(_component(name, version, purl))
    return components


def _component(name: str, version: str, purl: str) -> dict[str, Any]:
    kind = {"type": "library", "bom-ref": purl}
    return {**kind, "name": name, "version": version, "purl": purl}


def inventory() -> dict[str, Any]:
    """Return the whole document; the same packages give the same one."""
    own = importlib.metadata.version("mf-retrain")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "name": "mf-retrain", "version": own},
            "properties": [{"name": "python", "value": platform.python_version()}],
        },
        "components": [*python_packages(), *debian_packages()],
    }


if __name__ == "__main__":
    print(json.dumps(inventory(), indent=1))
