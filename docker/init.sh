#!/bin/sh
# Prepares what the services need; every step can be repeated.
set -eu

airflow db migrate
mf db bootstrap --admin-url "$MF_ADMIN_DATABASE_URL"
mf db migrate
# One slot: two trainings would share one GPU's memory.
airflow pools set gpu 1 "One training at a time"
umask 077
python - > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'END'
import json
import os

users = ("admin", "operator", "user", "viewer")
print(json.dumps({user: os.environ[f"{user.upper()}_PASSWORD"] for user in users}))
END
