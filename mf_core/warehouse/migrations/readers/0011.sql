-- The function as it was before revision 0012, for a step back to there. Names as in readers.sql.
-- It is right with the column `days` as well as without: who reads while the column goes has the text of
-- the function from before, and waits for the table.

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
    ORDER BY stored.rank
    LIMIT (SELECT wanted.n FROM wanted)
  ), popular AS (
    SELECT listed.rank, listed.item_id, listed.score, listed.predicted_rating,
           NULL::double precision, 'popular', (SELECT wanted.published_at FROM wanted)
    FROM {mf}.popular_items AS listed
    WHERE listed.model_version = (SELECT wanted.model_version FROM wanted)
      AND coalesce(to_jsonb(listed) ->> 'days', '0') = '0'
      AND NOT EXISTS (SELECT FROM own)
      AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = listed.item_id)
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
