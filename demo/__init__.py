"""The embedded stack: Postgres and Airflow on this machine.

It serves `make demo`, `make up` and the end-to-end tests.
"""
