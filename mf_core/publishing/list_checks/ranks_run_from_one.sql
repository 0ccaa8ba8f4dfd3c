-- Each user's ranks are 1..n, without a gap and without a double.
SELECT user_id, count(*) AS rows, min(rank) AS lowest, max(rank) AS highest
FROM mf.recommendation_rows_candidate
GROUP BY user_id
HAVING min(rank) <> 1 OR max(rank) <> count(*) OR count(DISTINCT rank) <> count(*)
LIMIT 5
