-- Every user with a rating has a full list.
-- It is as long as top_n, or as there are items that are neither rated by the user nor hidden.
WITH this AS (
  SELECT models.top_n, snapshots.n_items
  FROM {mf}.models
  JOIN {mf}.snapshots USING (snapshot_id)
  WHERE model_version = :model_version
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
