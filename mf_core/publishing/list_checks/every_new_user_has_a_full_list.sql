-- Every user without a rating, known by attributes only, has a full list.
-- It is as long as top_n, or as the catalogue without the hidden items, whichever is less.
-- A rating that was loaded after the snapshot does not make its user a known one.
WITH this AS (
  SELECT
    snapshots.unrated_users,
    least(
      models.top_n,
      snapshots.n_items - (SELECT count(*) FROM {mf}.hidden_items)
    ) AS length
  FROM {mf}.models
  JOIN {mf}.snapshots USING (snapshot_id)
  WHERE model_version = :model_version
),
-- The snapshot says how many such users there are, but not who, so full lists are counted.
full_lists AS (
  SELECT count(*) AS n
  FROM listed, this
  WHERE listed.n >= this.length
    AND NOT EXISTS (SELECT FROM rated WHERE rated.user_id = listed.user_id)
)
SELECT
  full_lists.n AS users_with_a_full_list,
  this.unrated_users AS users_without_a_rating,
  this.length
FROM full_lists, this
WHERE this.length > 0
  AND full_lists.n < this.unrated_users
