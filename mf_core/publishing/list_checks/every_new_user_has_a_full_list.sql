-- Every user without a rating, known by attributes only, has a full list.
-- It is as long as top_n, or as the catalogue without the hidden items, whichever is less.
WITH this AS (
  SELECT
    snapshots.unrated_users,
    least(
      models.top_n,
      snapshots.n_items - (SELECT count(*) FROM {mf}.hidden_items)
    ) AS length,
    -- A rating that was loaded after the snapshot does not make its user a known one.
    (
      SELECT coalesce(max(batch_id), 0)
      FROM {mf}.ingest_batches
      WHERE finished_at <= models.created_at
    ) AS last_batch
  FROM {mf}.models
  JOIN {mf}.snapshots USING (snapshot_id)
  WHERE model_version = :model_version
),
listed AS (
  SELECT user_id, count(*) AS n
  FROM {mf}.recommendation_rows_candidate AS candidate
  WHERE NOT EXISTS (
    SELECT FROM {mf}.ratings
    WHERE ratings.user_id = candidate.user_id
      AND batch_id <= (SELECT last_batch FROM this)
  )
  GROUP BY user_id
),
-- The snapshot says how many such users there are, but not who, so full lists are counted.
full_lists AS (
  SELECT count(*) AS n
  FROM listed, this
  WHERE listed.n >= this.length
)
SELECT
  full_lists.n AS users_with_a_full_list,
  this.unrated_users AS users_without_a_rating,
  this.length
FROM full_lists, this
WHERE this.length > 0
  AND full_lists.n < this.unrated_users
