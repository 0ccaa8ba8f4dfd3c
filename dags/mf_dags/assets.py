"""The assets that the DAGs announce."""

from airflow.sdk import Asset

# The URI is a logical name, and its host is the id of the Airflow connection, so that the UI shows
# nothing of the real address.
RECOMMENDATIONS = Asset(
    name="mf_recommendations", uri="postgres://mf_warehouse/warehouse/mf/recommendations"
)
