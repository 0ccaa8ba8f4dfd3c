-- No list holds an item that was hidden when its rows were computed.
-- What has been hidden since is left out by the view.
SELECT listed.user_id, listed.item_id, hidden.hidden_at
FROM {mf}.recommendation_rows_candidate AS listed
JOIN {mf}.hidden_items AS hidden USING (item_id)
WHERE hidden.hidden_at <= listed.generated_at
LIMIT 5
