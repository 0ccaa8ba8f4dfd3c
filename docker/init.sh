#!/bin/sh
# Prepares what the services need; every step can be repeated.
set -eu

airflow db migrate
mf db bootstrap --admin-url "$MF_ADMIN_DATABASE_URL"
mf db migrate
# One slot: two trainings would share one GPU's memory.
airflow pools set gpu 1 "One training at a time"
umask 077
python -c 'import json, os; print(json.dumps({"admin": os.environ["ADMIN_PASSWORD"]}))' \
    > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
