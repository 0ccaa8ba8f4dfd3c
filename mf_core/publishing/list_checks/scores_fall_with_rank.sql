-- A better place never has a lower score, or the list would be in the wrong order.
SELECT user_id, rank, score, before
FROM (
  SELECT
    user_id,
    rank,
    score,
    lag(score) OVER (PARTITION BY user_id ORDER BY rank) AS before
  FROM {mf}.recommendation_rows_candidate
) AS ordered
WHERE score > before
LIMIT 5
