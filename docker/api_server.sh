#!/bin/sh
# Writes down who may enter Airflow's UI, which only this service knows, and becomes the API server.
set -eu

umask 077
python - > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'END'
import json
import os

users = ("admin", "operator", "user", "viewer")
print(json.dumps({user: os.environ[f"{user.upper()}_PASSWORD"] for user in users}))
END
unset ADMIN_PASSWORD OPERATOR_PASSWORD USER_PASSWORD VIEWER_PASSWORD
exec airflow api-server
