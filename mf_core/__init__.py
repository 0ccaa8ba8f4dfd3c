"""Matrix-factorization retraining: the library behind the Airflow DAGs. It imports no Airflow."""

__version__ = "0.2.0"
