-- Scores and predictions are numbers.
-- Postgres sorts NaN above infinity, so the upper bounds find it too.
SELECT user_id, rank, score, predicted_rating
FROM {mf}.recommendation_rows_candidate
WHERE NOT (
    score > '-Infinity'
    AND score < 'Infinity'
    AND predicted_rating > '-Infinity'
    AND predicted_rating < 'Infinity'
  )
  OR predicted_rating_sd = 'NaN'
  OR predicted_rating_sd < 0
LIMIT 5
