"""What the DAG files share.

The trigger form, retry rules, alerts, and how a task finds its settings and its warehouse.
"""

from mf_core.extras import AIRFLOW

AIRFLOW.require()
