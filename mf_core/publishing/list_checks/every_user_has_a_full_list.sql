-- Every user with a rating has a full list.
-- It is as long as top_n, or as there are items that are neither rated by the user nor hidden.
WITH this AS (
  SELECT
    models.top_n,
    snapshots.n_users,
    snapshots.n_items,
    -- Ratings that were loaded after the snapshot are unknown to the lists.
    (
      SELECT coalesce(max(batch_id), 0)
      FROM {mf}.ingest_batches
      WHERE finished_at <= models.created_at
    ) AS last_batch
  FROM {mf}.models
  JOIN {mf}.snapshots USING (snapshot_id)
  WHERE model_version = :model_version
),
rated AS (
  SELECT user_id, count(*) AS n
  FROM {mf}.ratings
  WHERE batch_id <= (SELECT last_batch FROM this)
  GROUP BY user_id
),
listed AS (
  SELECT user_id, count(*) AS n
  FROM {mf}.recommendation_rows_candidate
  GROUP BY user_id
)
SELECT
  rated.user_id,
  coalesce(listed.n, 0) AS rows,
  rated.n AS rated,
  this.n_items AS items
FROM rated
-- A user without any row must not drop out of the check.
LEFT JOIN listed USING (user_id),
this
WHERE coalesce(listed.n, 0) < least(
  this.top_n,
  this.n_items - rated.n - (SELECT count(*) FROM {mf}.hidden_items)
)
LIMIT 5
