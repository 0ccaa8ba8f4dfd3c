-- As many users as the snapshot has: nobody twice, nobody made up.
SELECT listed.n AS users_listed, snapshots.n_users + snapshots.unrated_users AS users_in_snapshot
FROM (SELECT count(DISTINCT user_id) AS n FROM mf.recommendation_rows_candidate) AS listed,
     mf.models JOIN mf.snapshots USING (snapshot_id)
WHERE models.model_version = :model_version AND listed.n > snapshots.n_users + snapshots.unrated_users
