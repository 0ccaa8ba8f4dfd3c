-- The view as it was at revision 0008. A migration can't take columns off a view, so a step back to
-- there makes it anew. Names as in readers.sql.

CREATE VIEW {mf}.model_history AS
SELECT
  models.model_version,
  models.state,
  models.model_version IS NOT DISTINCT FROM (SELECT live.model_version FROM {mf}.live) AS is_live,
  models.created_at,
  models.published_at,
  models.retired_at,
  models.snapshot_id,
  models.split_id,
  snapshots.n_train,
  snapshots.n_test,
  figures.rmse,
  figures.mae,
  figures.ndcg_at_10,
  decision.approved,
  decision.decided_by,
  decision.decided_at,
  models.device,
  models.fit_seconds,
  models.code_version,
  figures.ndcg,
  figures.cutoff,
  promotion.went_live,
  promotion.promoted_at AS went_live_at,
  CASE
    WHEN models.published_at IS NULL THEN NULL
    WHEN fit.is_refit THEN snapshots.n_train + snapshots.n_test
    ELSE snapshots.n_train
  END AS n_ratings,
  CASE
    WHEN NOT decision.approved THEN 'refused'
    WHEN models.state = 'dry_run' THEN 'dry run: would be approved'
    WHEN decision.stage = 'override' THEN format('approved by an override of %s', decision.decided_by)
    WHEN decision.approved THEN 'approved'
  END AS verdict
FROM {mf}.models
JOIN {mf}.snapshots USING (snapshot_id)
LEFT JOIN LATERAL (
  SELECT
    max(value) FILTER (WHERE metric = 'rmse') AS rmse,
    max(value) FILTER (WHERE metric = 'mae') AS mae,
    max(value) FILTER (WHERE metric = 'ndcg_at_10') AS ndcg_at_10,
    max(value) FILTER (WHERE metric ~ '^ndcg_at_[0-9]+$') AS ndcg,
    max(substring(metric FROM '^ndcg_at_([0-9]+)$')::integer) AS cutoff
  FROM {mf}.evaluations AS e
  WHERE e.model_version = models.model_version AND e.subject = 'candidate' AND e.slice = 'all'
) AS figures ON true
LEFT JOIN LATERAL (
  SELECT approved, decided_by, decided_at, stage
  FROM {mf}.gate_decisions AS d
  WHERE d.model_version = models.model_version
  ORDER BY d.decision_id DESC
  LIMIT 1
) AS decision ON true
LEFT JOIN LATERAL (
  SELECT CASE p.how
    WHEN 'gate' THEN 'by the gate'
    WHEN 'override' THEN format('by an override of %s: %s', p.overridden_by, p.reason)
    WHEN 'rollback' THEN
      format('by a rollback of %s, from version %s', p.promoted_by, p.previous_version)
  END AS went_live, p.promoted_at
  FROM {mf}.promotions AS p
  WHERE p.model_version = models.model_version
  ORDER BY p.promotion_id DESC
  LIMIT 1
) AS promotion ON true
-- The artifacts tell which fit the lists were made from. Those of the refit go with the lists; then
-- the settings tell it.
LEFT JOIN LATERAL (
  SELECT CASE
    WHEN bool_or(a.stage = 'refit') THEN true
    WHEN count(*) > 0 AND models.retired_at IS NULL THEN false
    ELSE coalesce((models.config #>> '{publish,refit}')::boolean, true)
  END AS is_refit
  FROM {mf}.model_artifacts AS a
  WHERE a.model_version = models.model_version
) AS fit ON true;

COMMENT ON VIEW {mf}.model_history IS
  'Every model version, newest figures and latest verdict included.';
COMMENT ON COLUMN {mf}.model_history.model_version IS 'Version.';
COMMENT ON COLUMN {mf}.model_history.state IS
  'Where the version stands: approved, refused, published, ...; see docs/architecture.md.';
COMMENT ON COLUMN {mf}.model_history.is_live IS 'Whether readers see it now.';
COMMENT ON COLUMN {mf}.model_history.created_at IS 'When the run took its snapshot.';
COMMENT ON COLUMN {mf}.model_history.published_at IS
  'When it first went live, with its lists just made; see also went_live_at.';
COMMENT ON COLUMN {mf}.model_history.retired_at IS 'When its rows were dropped.';
COMMENT ON COLUMN {mf}.model_history.snapshot_id IS 'Snapshot that it was trained on.';
COMMENT ON COLUMN {mf}.model_history.split_id IS 'Split of that snapshot.';
COMMENT ON COLUMN {mf}.model_history.n_train IS
  'Ratings on the training side of the split; see also n_ratings.';
COMMENT ON COLUMN {mf}.model_history.n_test IS 'Test ratings.';
COMMENT ON COLUMN {mf}.model_history.rmse IS 'Test RMSE of the rating head.';
COMMENT ON COLUMN {mf}.model_history.mae IS 'Test mean absolute error of the rating head.';
COMMENT ON COLUMN {mf}.model_history.ndcg_at_10 IS
  'NDCG@10 of the lists on the test rows; NULL if another cutoff was set (see ndcg).';
COMMENT ON COLUMN {mf}.model_history.approved IS 'Latest verdict; see also verdict.';
COMMENT ON COLUMN {mf}.model_history.decided_by IS 'gate, or the person who overrode it.';
COMMENT ON COLUMN {mf}.model_history.decided_at IS 'When.';
COMMENT ON COLUMN {mf}.model_history.device IS 'Device that it was trained on.';
COMMENT ON COLUMN {mf}.model_history.fit_seconds IS 'Seconds of training.';
COMMENT ON COLUMN {mf}.model_history.code_version IS
  'Version of the code, with the hash of its sources and the commit.';
COMMENT ON COLUMN {mf}.model_history.ndcg IS 'NDCG of the lists on the test rows, at cutoff.';
COMMENT ON COLUMN {mf}.model_history.cutoff IS 'Length of the lists that ndcg looks at.';
COMMENT ON COLUMN {mf}.model_history.went_live IS
  'How the version last went live: by the gate, by an override (who, why), by a rollback (who).';
COMMENT ON COLUMN {mf}.model_history.went_live_at IS
  'When it last went live; the live version is live since then.';
COMMENT ON COLUMN {mf}.model_history.n_ratings IS
  'Ratings that its lists are made from: all after a refit, else the training side; NULL: no lists.';
COMMENT ON COLUMN {mf}.model_history.verdict IS
  'Latest verdict in words: approved (by whose override), refused, dry run: would be approved.';

GRANT SELECT ON {mf}.model_history TO {reader};
GRANT SELECT ON {mf}.model_history TO {console};
