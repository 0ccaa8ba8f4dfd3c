-- What readers of the warehouse see: views, a user's list, their comments, and the grants. The other
-- functions stand in look_ups.sql.
--
-- {mf} stands for the schema and {reader}, {console}, {monitor} for the roles, as the catalogue and the
-- environment name them. A role that the server does not have gets nothing (warehouse/roles.py).
--
-- `mf db migrate` runs this file after the migrations, every time: what stands here is what exists.
-- To add a column for readers, add it as the LAST one of its view (readers rely on the order), with
-- its comment. CREATE OR REPLACE keeps grants, and views of other people's that read from these; it
-- can't change what a function returns, so a migration drops the function first
-- (docs/howto/add-a-column-for-readers.md).

-- The subqueries on {mf}.live are evaluated first, so that Postgres skips the partitions of all other
-- versions at run time; a join would not do that.
CREATE OR REPLACE VIEW {mf}.recommendations AS
SELECT
  user_id,
  place::integer AS rank,
  item_id,
  score,
  predicted_rating,
  predicted_rating_sd,
  source,
  model_version,
  generated_at
FROM (
  SELECT stored.*, row_number() OVER (PARTITION BY stored.user_id ORDER BY stored.rank) AS place
  FROM {mf}.recommendation_rows AS stored
  WHERE stored.model_version = (SELECT live.model_version FROM {mf}.live)
    AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = stored.item_id)
    AND NOT EXISTS (SELECT FROM {mf}.forgotten_users AS gone WHERE gone.user_id = stored.user_id)
) AS visible
WHERE place <= (SELECT models.top_n FROM {mf}.models JOIN {mf}.live USING (model_version));

CREATE OR REPLACE FUNCTION {mf}.recommendations_for(for_user_id text, n integer DEFAULT NULL)
RETURNS TABLE (
  rank integer,
  item_id text,
  score double precision,
  predicted_rating double precision,
  predicted_rating_sd double precision,
  source text,
  model_version bigint,
  generated_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH wanted AS (
    SELECT live.model_version, models.published_at, greatest(coalesce(n, models.top_n), 0) AS n
    FROM {mf}.live JOIN {mf}.models USING (model_version)
  ), own AS (
    SELECT stored.rank, stored.item_id, stored.score, stored.predicted_rating,
           stored.predicted_rating_sd, stored.source, stored.generated_at
    FROM {mf}.recommendation_rows AS stored
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.user_id = for_user_id
      AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = stored.item_id)
      AND NOT EXISTS (SELECT FROM {mf}.forgotten_users AS gone WHERE gone.user_id = for_user_id)
    ORDER BY stored.rank
    LIMIT (SELECT wanted.n FROM wanted)
  ), popular AS (
    SELECT listed.rank, listed.item_id, listed.score, listed.predicted_rating,
           NULL::double precision, 'popular', (SELECT wanted.published_at FROM wanted)
    FROM {mf}.popular_items AS listed
    WHERE listed.model_version = (SELECT wanted.model_version FROM wanted)
      AND listed.days = 0
      AND NOT EXISTS (SELECT FROM own)
      AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = listed.item_id)
      -- A known user may have no row left: all is rated, or hidden. Or the first ratings are new.
      -- An IS NULL keeps to one look into the index for each item, whoever has rated how much.
      AND (
        SELECT rated.item_id FROM {mf}.ratings AS rated
        WHERE rated.user_id = for_user_id AND rated.item_id = listed.item_id
      ) IS NULL
    ORDER BY listed.rank
    LIMIT (SELECT wanted.n FROM wanted)
  )
  SELECT
    (row_number() OVER (ORDER BY chosen.rank))::integer,
    chosen.item_id,
    chosen.score,
    chosen.predicted_rating,
    chosen.predicted_rating_sd,
    chosen.source,
    (SELECT wanted.model_version FROM wanted),
    chosen.generated_at
  FROM (SELECT * FROM own UNION ALL SELECT * FROM popular) AS chosen
  ORDER BY 1
$$;

CREATE OR REPLACE VIEW {mf}.model_history AS
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
  END AS verdict,
  found.settings AS found_settings,
  CASE WHEN found.found_id IS NOT NULL THEN format(
    'found on %s%s: %s',
    to_char(found.found_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
    CASE found.source WHEN 'tune' THEN ' by mf tune' ELSE '' END,
    found.grounds
  ) END AS found_on
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
) AS fit ON true
-- While a version's search is not on record, it has no settings of its own yet.
LEFT JOIN {mf}.found_settings AS found
  ON found.found_id = models.found_id AND NOT models.searches;

COMMENT ON FUNCTION {mf}.recommendations_for(text, integer) IS
  'The n best items for a user; the popular list, without what was rated, for one who has no list.';

COMMENT ON VIEW {mf}.recommendations IS
  'The live recommendations: one row per user and rank. Columns are only ever appended.';
COMMENT ON COLUMN {mf}.recommendations.user_id IS 'User.';
COMMENT ON COLUMN {mf}.recommendations.rank IS 'Place in the user''s list, from 1.';
COMMENT ON COLUMN {mf}.recommendations.item_id IS
  'Recommended item, never one that the user has rated or that is hidden.';
COMMENT ON COLUMN {mf}.recommendations.score IS
  'What the list is ordered by; compare within a user only.';
COMMENT ON COLUMN {mf}.recommendations.predicted_rating IS
  'Predicted rating, on the ratings'' scale; NULL where the model is of events.';
COMMENT ON COLUMN {mf}.recommendations.predicted_rating_sd IS
  'Its standard deviation; NULL where the solver gives none.';
COMMENT ON COLUMN {mf}.recommendations.source IS
  'model, or popular for a user without a positive rating.';
COMMENT ON COLUMN {mf}.recommendations.model_version IS 'Version that made the row.';
COMMENT ON COLUMN {mf}.recommendations.generated_at IS 'When the row was computed.';

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

COMMENT ON COLUMN {mf}.model_history.found_settings IS
  'Settings that a search chose for it, by name; {}: the shipped ones; NULL: those of the run alone.';
COMMENT ON COLUMN {mf}.model_history.found_on IS 'When they were found, and by which figures.';

REVOKE ALL ON FUNCTION {mf}.recommendations_for(text, integer) FROM PUBLIC;
GRANT USAGE ON SCHEMA {mf} TO {reader};
GRANT SELECT ON {mf}.recommendations, {mf}.model_history TO {reader};
GRANT EXECUTE ON FUNCTION {mf}.recommendations_for(text, integer) TO {reader};

-- What the console shows, and nothing else.
GRANT USAGE ON SCHEMA {mf} TO {console};
GRANT SELECT ON {mf}.model_history, {mf}.gate_decisions, {mf}.runs TO {console};
GRANT SELECT (model_version, state) ON {mf}.models TO {console};
GRANT SELECT (item_id, title) ON {mf}.items TO {console};
GRANT EXECUTE ON FUNCTION {mf}.recommendations_for(text, integer) TO {console};
