-- No user is made up. The lists have no more users than the snapshot.
-- Users are counted, since the warehouse may by now know others than the snapshot does.
SELECT
  users.n AS users_listed,
  snapshots.n_users + snapshots.unrated_users AS users_in_snapshot
FROM (SELECT count(*) AS n FROM listed) AS users,
{mf}.models
JOIN {mf}.snapshots USING (snapshot_id)
WHERE models.model_version = :model_version
  AND users.n > snapshots.n_users + snapshots.unrated_users
