-- What the list of each user comes to.
-- The key has the rows of a list side by side in the order of rank, so nothing is sorted but the
-- lists, each by itself. The aggregate in that order comes first: Postgres brings all rows into the
-- order of the first one.
SELECT
  user_id,
  array_agg(score ORDER BY rank) = array_agg(score ORDER BY score DESC) AS scores_fall,
  count(*) AS n,
  min(rank) AS lowest_rank,
  max(rank) AS highest_rank,
  count(DISTINCT item_id) AS n_items
FROM {mf}.recommendation_rows_candidate
GROUP BY model_version, user_id
