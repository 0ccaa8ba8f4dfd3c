-- The ranks of each user are 1 to n, without a gap and without a repetition.
-- A gap would mean that a row was lost on its way into the table. A repetition is one that the key
-- does not let pass; it is told under the same name (publishing/verification.py).
SELECT user_id, n AS rows, lowest_rank AS lowest, highest_rank AS highest
FROM listed
WHERE lowest_rank <> 1
  OR highest_rank <> n
LIMIT 5
