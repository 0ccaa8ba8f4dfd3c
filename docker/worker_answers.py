"""Exit 0 if the Celery worker of this container answers; Airflow, slow to import, is not asked."""

import os
import socket
import sys

from celery import Celery

app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
name = f"celery@{socket.gethostname()}"
sys.exit(0 if app.control.ping([name], timeout=5) else f"no answer from {name}")
