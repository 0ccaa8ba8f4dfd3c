-- No list holds an item that was hidden when its rows were computed.
-- What has been hidden since is left out by the view.
WITH hidden AS (
  SELECT item_id, hidden_at
  FROM {mf}.hidden_items
  JOIN listed_items USING (item_id)
  WHERE hidden_at <= last_generated_at
  LIMIT 5
)
SELECT listed.user_id, listed.item_id, hidden.hidden_at
FROM {mf}.recommendation_rows_candidate AS listed
JOIN hidden USING (item_id)
WHERE hidden.hidden_at <= listed.generated_at
LIMIT 5
