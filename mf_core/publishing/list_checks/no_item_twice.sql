-- No list holds an item twice. The table's key (user and rank) would allow it.
WITH suspect AS (
  SELECT user_id
  FROM listed
  WHERE n_items < n
  LIMIT 5
)
SELECT user_id, item_id, count(*) AS times
FROM {mf}.recommendation_rows_candidate
JOIN suspect USING (user_id)
GROUP BY user_id, item_id
HAVING count(*) > 1
LIMIT 5
