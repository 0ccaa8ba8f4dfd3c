"""Spark's ALS in local mode. Settings: rank, regParam, cores, memory (of the driver, as Spark writes it)."""

import time

import numpy as np
import pyarrow as pa
from contract import Task, dot_products
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession


def main() -> None:
    task = Task()
    cores, memory = task.settings.pop("cores"), task.settings.pop("memory")
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


def _run(task, spark):
    since = time.perf_counter()
    columns = dict(zip(("user", "item", "rating"), task.train, strict=True))
    ratings = spark.createDataFrame(pa.table(columns)).cache()
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
    user, item = task.held_out[:2]
    user_factors, item_factors = (
        _array(model.userFactors, task.n_users),
        _array(model.itemFactors, task.n_items),
    )
    predicted = dot_products(user_factors, item_factors, user, item)
    # Spark's own answer for a user or item without a rating is NaN.
    task.report(
        seconds,
        task.iterations,
        np.where(np.isnan(predicted), task.train[2].mean(dtype=np.float64), predicted),
    )


def _array(factors, n_rows):
    table = factors.toArrow()
    rows = table["id"].to_numpy()
    values = np.concatenate(
        [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table["features"].chunks]
    )
    out = np.full((n_rows, len(values) // len(rows)), np.nan, np.float32)
    out[rows] = values.reshape(len(rows), -1)
    return out


if __name__ == "__main__":
    main()
