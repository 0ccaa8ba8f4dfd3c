"""Spark's ALS in local mode.

Settings: rank, regParam, cores, memory (of the driver, as Spark writes it).
"""

import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame, SparkSession

if TYPE_CHECKING:
    from benchmarks.peers.contract import Float32s, Float64s, Task, dot_products
else:
    from contract import Task, dot_products


def main() -> None:
    """Fit once, and print the point."""
    task = Task()
    cores = task.settings.pop("cores")
    memory = task.settings.pop("memory")
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", memory)
        # At 20 iterations the lineage is too deep for the default stack, now and then.
        .config("spark.driver.extraJavaOptions", "-Xss64m")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", str(cores))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    try:
        _run(task, spark)
    finally:
        spark.stop()


def _run(task: Task, spark: SparkSession) -> None:
    since = time.perf_counter()
    user, item, rating = task.train
    rows = pa.table({"user": user, "item": item, "rating": rating})
    ratings = spark.createDataFrame(rows).cache()
    # Spark is lazy: counting is what fills the cache.
    ratings.count()
    task.prepared(since)

    settings = {
        "userCol": "user",
        "itemCol": "item",
        "ratingCol": "rating",
        "seed": task.seed,
        **task.settings,
    }
    task.start()
    model = ALS(maxIter=task.iterations, **settings).fit(ratings)
    seconds = task.pause()

    predicted = _predict(model, task)
    task.report(seconds, task.iterations, predicted)


def _predict(model: ALSModel, task: Task) -> "Float64s":
    """Return x_u . y_i of the held-out pairs."""
    user_factors = _array(model.userFactors, task.n_users)
    item_factors = _array(model.itemFactors, task.n_items)
    user, item, _ = task.held_out
    predicted = dot_products(user_factors, item_factors, user, item)

    # Spark's own answer for a user or item without a rating is NaN; here it is the mean.
    _, _, rating = task.train
    mean = rating.mean(dtype=np.float64)
    return np.where(np.isnan(predicted), mean, predicted)


def _array(factors: DataFrame, n_rows: int) -> "Float32s":
    """Return Spark's factors as an array of shape (n_rows, rank), NaN where a row has none."""
    table = factors.toArrow()
    rows = table["id"].to_numpy()
    chunks = table["features"].chunks
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    values = np.concatenate(parts)

    # Spark returns the rows that have a rating, in any order.
    rank = len(values) // len(rows)
    out = np.full((n_rows, rank), np.nan, np.float32)
    out[rows] = values.reshape(len(rows), -1)
    return out


if __name__ == "__main__":
    main()
