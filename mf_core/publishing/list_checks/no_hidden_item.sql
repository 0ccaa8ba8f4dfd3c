-- Nothing that was hidden when the rows were computed (the view drops what has been hidden since).
SELECT listed.user_id, listed.item_id, hidden.hidden_at
FROM mf.recommendation_rows_candidate AS listed JOIN mf.hidden_items AS hidden USING (item_id)
WHERE hidden.hidden_at <= listed.generated_at
LIMIT 5
