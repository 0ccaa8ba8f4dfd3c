"""The page "Recommendations" in the Airflow UI: what is live, why, and one user's list."""
