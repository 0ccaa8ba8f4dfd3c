-- What a monitoring system sees, as the role {monitor}: how old the lists are, how the runs ended,
-- what was measured, what came in and was refused, and what it takes on disk. Neither an id of a user
-- or an item, nor a rating, nor a person's name, nor what an error said, which may quote all of them.
--
-- `mf db migrate` runs this file after readers.sql, every time. It holds to the same rules: a column
-- is only ever appended, with its comment (docs/howto/monitoring.md). {mf} and {monitor} stand for the
-- names as readers.sql says.

CREATE OR REPLACE VIEW {mf}.monitoring_lists AS
SELECT
  live.model_version,
  history.published_at,
  history.went_live_at,
  extract(epoch FROM now() - history.published_at)::bigint AS age_seconds,
  history.n_ratings,
  history.rmse,
  history.ndcg,
  history.cutoff,
  (SELECT count(*) FROM {mf}.hidden_items) AS hidden_items
FROM {mf}.live
LEFT JOIN {mf}.model_history AS history USING (model_version);

CREATE OR REPLACE VIEW {mf}.monitoring_runs AS
SELECT
  runs.run_key,
  runs.outcome,
  runs.step,
  runs.model_version,
  runs.started_at,
  runs.ended_at,
  extract(epoch FROM coalesce(runs.ended_at, now()) - runs.started_at)::bigint AS seconds
FROM {mf}.runs;

CREATE OR REPLACE VIEW {mf}.monitoring_versions AS
SELECT
  history.model_version,
  history.state,
  history.is_live,
  history.created_at,
  history.published_at,
  history.approved,
  history.rmse,
  history.mae,
  history.ndcg,
  coverage.value AS coverage,
  history.cutoff,
  history.n_train,
  history.n_test,
  history.fit_seconds,
  history.device
FROM {mf}.model_history AS history
LEFT JOIN LATERAL (
  SELECT max(e.value) AS value
  FROM {mf}.evaluations AS e
  WHERE e.model_version = history.model_version
    AND e.subject = 'candidate' AND e.slice = 'all'
    AND e.metric = format('coverage_at_%s', history.cutoff)
) AS coverage ON true;

CREATE OR REPLACE VIEW {mf}.monitoring_ingests AS
SELECT
  batches.batch_id,
  batches.state,
  batches.mode,
  batches.started_at,
  batches.finished_at,
  extract(epoch FROM batches.finished_at - batches.started_at)::double precision AS seconds,
  batches.rows_read,
  batches.rows_rejected,
  batches.rows_duplicate,
  batches.rows_inserted,
  batches.rows_updated,
  batches.rows_unchanged,
  batches.rows_removed,
  batches.total_ratings
FROM {mf}.ingest_batches AS batches;

-- Each version has a table of lists of its own; they count as one.
CREATE OR REPLACE VIEW {mf}.monitoring_sizes AS
SELECT
  regexp_replace(class.relname, '^recommendation_rows_v[0-9]+$', 'recommendation_rows')
    AS table_name,
  count(*) FILTER (WHERE class.relkind = 'r') AS tables,
  sum(pg_total_relation_size(class.oid))::bigint AS bytes,
  sum(greatest(class.reltuples, 0))::bigint AS estimated_rows
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace('{mf}') AND class.relkind IN ('r', 'p')
GROUP BY 1;

COMMENT ON VIEW {mf}.monitoring_lists IS
  'One row: what readers see and how old it is; NULLs before the first publication.';
COMMENT ON COLUMN {mf}.monitoring_lists.model_version IS 'Version that readers see.';
COMMENT ON COLUMN {mf}.monitoring_lists.published_at IS
  'When its lists first went live, which is how old they are.';
COMMENT ON COLUMN {mf}.monitoring_lists.went_live_at IS 'When it last went live.';
COMMENT ON COLUMN {mf}.monitoring_lists.age_seconds IS
  'Age of the lists; what `mf status --max-age` compares.';
COMMENT ON COLUMN {mf}.monitoring_lists.n_ratings IS 'Ratings that the lists are made from.';
COMMENT ON COLUMN {mf}.monitoring_lists.rmse IS 'Test RMSE of its rating head.';
COMMENT ON COLUMN {mf}.monitoring_lists.ndcg IS 'NDCG of its lists on the test rows, at cutoff.';
COMMENT ON COLUMN {mf}.monitoring_lists.cutoff IS 'Length of the lists that ndcg looks at.';
COMMENT ON COLUMN {mf}.monitoring_lists.hidden_items IS 'Items hidden from readers.';

COMMENT ON VIEW {mf}.monitoring_runs IS 'How every run stands or ended.';
COMMENT ON COLUMN {mf}.monitoring_runs.run_key IS 'Name of the run.';
COMMENT ON COLUMN {mf}.monitoring_runs.outcome IS
  'running, published, nothing_new, dry_run, refused or failed.';
COMMENT ON COLUMN {mf}.monitoring_runs.step IS 'Step that ended it; NULL: it did not end early.';
COMMENT ON COLUMN {mf}.monitoring_runs.model_version IS 'Version that it made; NULL: none.';
COMMENT ON COLUMN {mf}.monitoring_runs.started_at IS 'When it was last started.';
COMMENT ON COLUMN {mf}.monitoring_runs.ended_at IS 'When it ended; NULL: it runs, or was killed.';
COMMENT ON COLUMN {mf}.monitoring_runs.seconds IS 'How long it took, or runs by now.';

COMMENT ON VIEW {mf}.monitoring_versions IS 'What was measured of every version.';
COMMENT ON COLUMN {mf}.monitoring_versions.model_version IS 'Version.';
COMMENT ON COLUMN {mf}.monitoring_versions.state IS 'Where it stands; see docs/architecture.md.';
COMMENT ON COLUMN {mf}.monitoring_versions.is_live IS 'Whether readers see it now.';
COMMENT ON COLUMN {mf}.monitoring_versions.created_at IS 'When its run took the snapshot.';
COMMENT ON COLUMN {mf}.monitoring_versions.published_at IS 'When it first went live.';
COMMENT ON COLUMN {mf}.monitoring_versions.approved IS 'Latest verdict; NULL: none.';
COMMENT ON COLUMN {mf}.monitoring_versions.rmse IS 'Test RMSE of the rating head.';
COMMENT ON COLUMN {mf}.monitoring_versions.mae IS 'Test mean absolute error of the rating head.';
COMMENT ON COLUMN {mf}.monitoring_versions.ndcg IS 'NDCG of the lists on the test rows, at cutoff.';
COMMENT ON COLUMN {mf}.monitoring_versions.coverage IS
  'Share of the items that the lists show to anybody, at cutoff.';
COMMENT ON COLUMN {mf}.monitoring_versions.cutoff IS
  'Length of the lists that ndcg and coverage look at.';
COMMENT ON COLUMN {mf}.monitoring_versions.n_train IS 'Ratings on the training side.';
COMMENT ON COLUMN {mf}.monitoring_versions.n_test IS 'Ratings on the test side.';
COMMENT ON COLUMN {mf}.monitoring_versions.fit_seconds IS 'Seconds of training.';
COMMENT ON COLUMN {mf}.monitoring_versions.device IS 'Device that it was trained on.';

COMMENT ON VIEW {mf}.monitoring_ingests IS 'Rows of every batch of ratings that was offered.';
COMMENT ON COLUMN {mf}.monitoring_ingests.batch_id IS 'Number of the batch.';
COMMENT ON COLUMN {mf}.monitoring_ingests.state IS 'loaded, or refused as a whole.';
COMMENT ON COLUMN {mf}.monitoring_ingests.mode IS 'merge or replace.';
COMMENT ON COLUMN {mf}.monitoring_ingests.started_at IS 'When reading began.';
COMMENT ON COLUMN {mf}.monitoring_ingests.finished_at IS 'When the batch was committed.';
COMMENT ON COLUMN {mf}.monitoring_ingests.seconds IS 'How long that took.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_read IS 'Rows in the source.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_rejected IS 'Rows that were not loaded.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_duplicate IS
  'Rows that another one of the same source replaced.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_inserted IS 'Ratings that were new.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_updated IS 'Ratings that changed.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_unchanged IS 'Ratings that stood there already.';
COMMENT ON COLUMN {mf}.monitoring_ingests.rows_removed IS 'Ratings that the source no longer has.';
COMMENT ON COLUMN {mf}.monitoring_ingests.total_ratings IS 'Ratings in the table afterwards.';

COMMENT ON VIEW {mf}.monitoring_sizes IS 'What each table takes on disk, indexes included.';
COMMENT ON COLUMN {mf}.monitoring_sizes.table_name IS
  'Table; recommendation_rows: the lists of all versions.';
COMMENT ON COLUMN {mf}.monitoring_sizes.tables IS 'How many tables that is.';
COMMENT ON COLUMN {mf}.monitoring_sizes.bytes IS 'Bytes on disk.';
COMMENT ON COLUMN {mf}.monitoring_sizes.estimated_rows IS
  'Rows, as Postgres last counted them; 0: it has not yet.';

GRANT USAGE ON SCHEMA {mf} TO {monitor};
GRANT SELECT ON {mf}.monitoring_lists, {mf}.monitoring_runs, {mf}.monitoring_versions,
  {mf}.monitoring_ingests, {mf}.monitoring_sizes TO {monitor};
