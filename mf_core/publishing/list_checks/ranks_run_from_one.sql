-- The ranks of each user are 1 to n, without a gap and without a repetition.
-- A gap would mean that a row was lost on its way into the table.
SELECT user_id, count(*) AS rows, min(rank) AS lowest, max(rank) AS highest
FROM {mf}.recommendation_rows_candidate
GROUP BY user_id
HAVING min(rank) <> 1
  OR max(rank) <> count(*)
  OR count(DISTINCT rank) <> count(*)
LIMIT 5
