#!/bin/sh
# Prepares what the services need; every step can be repeated, with other passwords too.
set -eu

python /opt/mf/docker/databases.py
airflow db migrate
mf db bootstrap --admin-url "$MF_ADMIN_DATABASE_URL"
mf db migrate
# One slot: two trainings would share one GPU's memory.
airflow pools set gpu 1 "One training at a time"
