"""The peers' runners. Each is a script that runs in its peer's own environment; see `contract.py`."""
