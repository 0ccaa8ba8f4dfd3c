-- Where the items stand that are in any list.
SELECT
  item_id,
  min(rank) AS best_rank,
  max(generated_at) AS last_generated_at
FROM {mf}.recommendation_rows_candidate
GROUP BY item_id
