-- A better place never has a lower score, or the list would be in the wrong order.
WITH suspect AS (
  SELECT user_id
  FROM listed
  WHERE NOT scores_fall
  LIMIT 5
)
SELECT user_id, rank, score, before
FROM (
  SELECT
    user_id,
    rank,
    score,
    lag(score) OVER (PARTITION BY user_id ORDER BY rank) AS before
  FROM {mf}.recommendation_rows_candidate
  JOIN suspect USING (user_id)
) AS ordered
WHERE score > before
LIMIT 5
