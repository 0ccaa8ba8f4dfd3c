-- No user is made up. The lists have no more users than the snapshot.
-- Users are counted, since the warehouse may by now know others than the snapshot does.
SELECT
  listed.n AS users_listed,
  snapshots.n_users + snapshots.unrated_users AS users_in_snapshot
FROM (SELECT count(DISTINCT user_id) AS n FROM {mf}.recommendation_rows_candidate) AS listed,
{mf}.models
JOIN {mf}.snapshots USING (snapshot_id)
WHERE models.model_version = :model_version
  AND listed.n > snapshots.n_users + snapshots.unrated_users
