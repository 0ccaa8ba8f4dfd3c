"""The assets that the DAGs announce."""

from airflow.sdk import Asset

# The URI is a logical name (the host is the Airflow connection's id), so that nothing of the real address is on show.
RECOMMENDATIONS = Asset(
    name="mf_recommendations", uri="postgres://mf_warehouse/warehouse/mf/recommendations"
)
