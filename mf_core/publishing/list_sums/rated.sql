-- How many ratings each user has that the lists know of.
SELECT user_id, count(*) AS n
FROM {mf}.ratings
WHERE batch_id <= :last_batch
GROUP BY user_id
