-- No user is offered an item that they had rated when the run took its snapshot.
-- A rating that was loaded later is unknown to the lists, so later batches do not count.
SELECT listed.user_id, listed.item_id, listed.rank
FROM {mf}.recommendation_rows_candidate AS listed
JOIN {mf}.ratings USING (user_id, item_id)
WHERE ratings.batch_id <= :last_batch
LIMIT 5
