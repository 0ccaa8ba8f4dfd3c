-- No list holds an item twice. The table's key (user and rank) would allow it.
SELECT user_id, item_id, count(*) AS times
FROM {mf}.recommendation_rows_candidate
GROUP BY user_id, item_id
HAVING count(*) > 1
LIMIT 5
