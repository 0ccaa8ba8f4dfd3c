-- A model predicts every rating of its lists, or, where it is of events, none of them.
SELECT user_id, rank, item_id, predicted_rating, predicted_rating_sd
FROM {mf}.recommendation_rows_candidate
WHERE (predicted_rating IS NULL) IS DISTINCT FROM (
  SELECT coalesce(config #>> ARRAY['data', 'kind'], 'ratings') = 'events'
  FROM {mf}.models
  WHERE model_version = :model_version
)
LIMIT 5
