"""The split's hash, and what readers see: views, the look-up function, their comments and grants.

Revision ID: 0002
Revises: 0001
"""

from functools import partial

from alembic import op

from mf_core.warehouse.roles import run_named

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SPLIT_BUCKET = """
CREATE FUNCTION {mf}.split_bucket(user_id text, item_id text, seed integer) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  -- The first four bytes of the digest as a number, modulo 10,000.
  SELECT ((get_byte(digest, 0) * 16777216::bigint + get_byte(digest, 1) * 65536
    + get_byte(digest, 2) * 256
           + get_byte(digest, 3)) % 10000)::integer
  FROM (SELECT sha256(convert_to(
      octet_length(user_id) || ':' || user_id || octet_length(item_id) || ':' || item_id
        || seed, 'UTF8')) AS digest) AS hashed
$$
"""

# The subqueries on mf.live are evaluated first, so that Postgres skips every other partition at
# run time (a join would not).
_RECOMMENDATIONS = """
CREATE VIEW {mf}.recommendations AS
SELECT user_id, rank::integer AS rank, item_id, score, predicted_rating, predicted_rating_sd,
  source, model_version, generated_at
FROM (
  SELECT stored.user_id,
    row_number() OVER (PARTITION BY stored.user_id ORDER BY stored.rank) AS rank, stored.item_id,
         stored.score, stored.predicted_rating, stored.predicted_rating_sd, stored.source,
           stored.model_version,
         stored.generated_at
  FROM {mf}.recommendation_rows AS stored
  WHERE stored.model_version = (SELECT live.model_version FROM {mf}.live)
    AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = stored.item_id)
) AS visible
WHERE rank <= (SELECT models.top_n FROM {mf}.models JOIN {mf}.live USING (model_version))
"""

_RECOMMENDATIONS_FOR = """
CREATE FUNCTION {mf}.recommendations_for(for_user_id text, n integer DEFAULT NULL)
RETURNS TABLE (rank integer, item_id text, score double precision,
  predicted_rating double precision,
               predicted_rating_sd double precision, source text, model_version bigint,
                 generated_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH wanted AS (
    SELECT live.model_version, models.published_at, greatest(coalesce(n, models.top_n), 0) AS n
    FROM {mf}.live JOIN {mf}.models USING (model_version)
  ), own AS (
    SELECT stored.rank, stored.item_id, stored.score, stored.predicted_rating,
      stored.predicted_rating_sd, stored.source,
           stored.generated_at
    FROM {mf}.recommendation_rows AS stored
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.user_id = for_user_id
      AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = stored.item_id)
    ORDER BY stored.rank LIMIT (SELECT wanted.n FROM wanted)
  ), popular AS (
    SELECT listed.rank, listed.item_id, listed.score, listed.predicted_rating,
      NULL::double precision, 'popular',
           (SELECT wanted.published_at FROM wanted)
    FROM {mf}.popular_items AS listed
    WHERE listed.model_version = (SELECT wanted.model_version FROM wanted)
      AND NOT EXISTS (SELECT FROM own)
      AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = listed.item_id)
    ORDER BY listed.rank LIMIT (SELECT wanted.n FROM wanted)
  )
  SELECT (row_number() OVER (ORDER BY chosen.rank))::integer, chosen.item_id, chosen.score,
    chosen.predicted_rating,
         chosen.predicted_rating_sd, chosen.source, (SELECT wanted.model_version FROM wanted),
           chosen.generated_at
  FROM (SELECT * FROM own UNION ALL SELECT * FROM popular) AS chosen
  ORDER BY 1
$$
"""

_MODEL_HISTORY = """
CREATE VIEW {mf}.model_history AS
SELECT models.model_version, models.state,
       models.model_version
         IS NOT DISTINCT FROM (SELECT live.model_version FROM {mf}.live) AS is_live,
       models.created_at, models.published_at, models.retired_at, models.snapshot_id,
         models.split_id,
       snapshots.n_train, snapshots.n_test, figures.rmse, figures.mae, figures.ndcg_at_10,
       decision.approved, decision.decided_by, decision.decided_at, models.device,
         models.fit_seconds, models.code_version
FROM {mf}.models
JOIN {mf}.snapshots USING (snapshot_id)
LEFT JOIN LATERAL (
  SELECT max(value) FILTER (WHERE metric = 'rmse') AS rmse,
    max(value) FILTER (WHERE metric = 'mae') AS mae,
         max(value) FILTER (WHERE metric = 'ndcg_at_10') AS ndcg_at_10
  FROM {mf}.evaluations AS e
  WHERE e.model_version = models.model_version AND e.subject = 'candidate' AND e.slice = 'all'
) AS figures ON true
LEFT JOIN LATERAL (
  SELECT approved, decided_by, decided_at FROM {mf}.gate_decisions AS d
  WHERE d.model_version = models.model_version ORDER BY d.decision_id DESC LIMIT 1
) AS decision ON true
"""

_COMMENTS = {
    "SCHEMA {mf}": (
        "Ratings, models and recommendations of the nightly retrain. Readers: see docs/tables.md."
    ),
    "FUNCTION {mf}.split_bucket(text, text, integer)": (
        "Bucket 0..9999 of (user, item, seed): the pair's side of the hash split."
    ),
    "FUNCTION {mf}.recommendations_for(text, integer)": (
        "The n best items for a user; the popular list for a user nobody has seen."
    ),
    "VIEW {mf}.recommendations": (
        "The live recommendations: one row per user and rank. Columns are only ever appended."
    ),
    "COLUMN {mf}.recommendations.user_id": "User.",
    "COLUMN {mf}.recommendations.rank": "Place in the user's list, from 1.",
    "COLUMN {mf}.recommendations.item_id": (
        "Recommended item, never one that the user has rated or that is hidden."
    ),
    "COLUMN {mf}.recommendations.score": "What the list is ordered by; compare within a user only.",
    "COLUMN {mf}.recommendations.predicted_rating": "Predicted rating, on the ratings' scale.",
    "COLUMN {mf}.recommendations.predicted_rating_sd": (
        "Its standard deviation; NULL where the solver gives none."
    ),
    "COLUMN {mf}.recommendations.source": "model, or popular for a user without a positive rating.",
    "COLUMN {mf}.recommendations.model_version": "Version that made the row.",
    "COLUMN {mf}.recommendations.generated_at": "When the row was computed.",
    "VIEW {mf}.model_history": "Every model version, newest figures and latest verdict included.",
    "COLUMN {mf}.model_history.model_version": "Version.",
    "COLUMN {mf}.model_history.state": (
        "created, trained, evaluated, refused, approved, published or retired."
    ),
    "COLUMN {mf}.model_history.is_live": "Whether readers see it now.",
    "COLUMN {mf}.model_history.created_at": "When the run took its snapshot.",
    "COLUMN {mf}.model_history.published_at": "When it first went live.",
    "COLUMN {mf}.model_history.retired_at": "When its rows were dropped.",
    "COLUMN {mf}.model_history.snapshot_id": "Snapshot that it was trained on.",
    "COLUMN {mf}.model_history.split_id": "Split of that snapshot.",
    "COLUMN {mf}.model_history.n_train": "Training ratings.",
    "COLUMN {mf}.model_history.n_test": "Test ratings.",
    "COLUMN {mf}.model_history.rmse": "Test RMSE of the rating head.",
    "COLUMN {mf}.model_history.mae": "Test mean absolute error of the rating head.",
    "COLUMN {mf}.model_history.ndcg_at_10": (
        "NDCG@10 of the lists on the test rows; NULL if another cutoff was set."
    ),
    "COLUMN {mf}.model_history.approved": "Latest verdict.",
    "COLUMN {mf}.model_history.decided_by": "gate, or the person who overrode it.",
    "COLUMN {mf}.model_history.decided_at": "When.",
    "COLUMN {mf}.model_history.device": "Device that it was trained on.",
    "COLUMN {mf}.model_history.fit_seconds": "Seconds of training.",
    "COLUMN {mf}.model_history.code_version": "Version of the code.",
}

_GRANTS = (
    "REVOKE ALL ON FUNCTION {mf}.split_bucket(text, text, integer) FROM PUBLIC",
    "REVOKE ALL ON FUNCTION {mf}.recommendations_for(text, integer) FROM PUBLIC",
    "GRANT USAGE ON SCHEMA {mf} TO {reader}",
    "GRANT SELECT ON {mf}.recommendations, {mf}.model_history TO {reader}",
    "GRANT EXECUTE ON FUNCTION {mf}.recommendations_for(text, integer) TO {reader}",
)


def upgrade() -> None:
    """Create the functions and views, comment on them, and let readers in."""
    run = partial(run_named, op.get_bind())
    for statement in (_SPLIT_BUCKET, _RECOMMENDATIONS, _RECOMMENDATIONS_FOR, _MODEL_HISTORY):
        run(statement)
    for target, comment in _COMMENTS.items():
        quoted = comment.replace("'", "''")
        run(f"COMMENT ON {target} IS '{quoted}'")
    for statement in _GRANTS:
        run(statement)
    run("INSERT INTO {mf}.live (model_version) VALUES (NULL)")


def downgrade() -> None:
    """Drop them."""
    run = partial(run_named, op.get_bind())
    run("DROP VIEW {mf}.model_history")
    run("DROP VIEW {mf}.recommendations")
    run("DROP FUNCTION {mf}.recommendations_for(text, integer)")
    run("DROP FUNCTION {mf}.split_bucket(text, text, integer)")
    run("REVOKE USAGE ON SCHEMA {mf} FROM {reader}")
    run("DELETE FROM {mf}.live")
