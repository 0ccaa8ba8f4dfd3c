"""Exit 0 if the Celery worker of this container answers; Airflow, slow to import, is not asked."""

import json
import os
import socket
import sys

from celery import Celery

app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
# The training worker listens to an exchange of its own.
app.conf.update(json.loads(os.environ.get("AIRFLOW__CELERY__EXTRA_CELERY_CONFIG", "{}")))
name = f"celery@{socket.gethostname()}"
sys.exit(0 if app.control.ping([name], timeout=5) else f"no answer from {name}")
