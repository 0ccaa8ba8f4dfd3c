"""The peers' runners: scripts, each for its peer's own environment; see `contract.py`."""
