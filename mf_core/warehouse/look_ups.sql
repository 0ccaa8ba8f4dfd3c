-- What readers can ask beside a user's list: functions, their comments, and the grants.
--
-- `mf db migrate` runs this file after readers.sql, every time; names as that one says. Each function
-- shows rows of the version in {mf}.live, so that they change with the lists, in one moment.

CREATE OR REPLACE FUNCTION {mf}.similar(item text, n integer DEFAULT NULL)
RETURNS TABLE (
  rank integer,
  item_id text,
  score double precision,
  model_version bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH wanted AS (
    SELECT live.model_version
    FROM {mf}.live
    WHERE NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = item)
  )
  SELECT
    (row_number() OVER (ORDER BY stored.rank))::integer,
    stored.similar_item_id,
    stored.score,
    stored.model_version
  FROM {mf}.similar_items AS stored
  WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
    AND stored.item_id = item
    AND NOT EXISTS (
      SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = stored.similar_item_id
    )
  ORDER BY stored.rank
  LIMIT CASE WHEN n < 0 THEN 0 ELSE n END
$$;

-- Of what it is asked it can't do, it says so: SQL alone could only give an empty list.
CREATE OR REPLACE FUNCTION {mf}.popular(
  n integer DEFAULT NULL,
  days integer DEFAULT NULL,
  attribute text DEFAULT NULL,
  value text DEFAULT NULL
)
RETURNS TABLE (
  rank integer,
  item_id text,
  score double precision,
  predicted_rating double precision,
  model_version bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF popular.days NOT IN (7, 30) THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('expected days => 7 or days => 30, got %s', popular.days),
      HINT = 'Leave days out for all time.';
  END IF;
  IF (popular.attribute IS NULL) <> (popular.value IS NULL) THEN
    RAISE invalid_parameter_value USING
      MESSAGE = 'expected attribute and value together, got one of them',
      HINT = 'Such as attribute => ''genres'', value => ''Comedy''.';
  END IF;

  RETURN QUERY
  WITH wanted AS (
    SELECT live.model_version, greatest(coalesce(popular.n, models.top_n), 0) AS n
    FROM {mf}.live JOIN {mf}.models USING (model_version)
  )
  SELECT
    (row_number() OVER (ORDER BY listed.rank))::integer,
    listed.item_id,
    listed.score,
    listed.predicted_rating,
    listed.model_version
  FROM {mf}.popular_items AS listed
  WHERE listed.model_version = (SELECT wanted.model_version FROM wanted)
    AND listed.days = coalesce(popular.days, 0)
    AND listed.score > 0
    AND NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = listed.item_id)
    -- One look at mf.items for each item in the order of the list, until there are enough.
    AND (popular.attribute IS NULL OR (
      SELECT CASE jsonb_typeof(items.attributes -> popular.attribute)
        WHEN 'array' THEN popular.value IN (
          SELECT jsonb_array_elements_text(items.attributes -> popular.attribute)
        )
        ELSE items.attributes ->> popular.attribute = popular.value
      END
      FROM {mf}.items WHERE items.item_id = listed.item_id
    ))
  ORDER BY listed.rank
  LIMIT (SELECT wanted.n FROM wanted);
END
$$;

-- A hidden item moves those behind it one place up. Lists without one are read in the order of the
-- index, as many as are wanted; the places of the others, few as a rule, are counted.
CREATE OR REPLACE FUNCTION {mf}.audience(item text, n integer DEFAULT 100)
RETURNS TABLE (
  user_id text,
  rank integer,
  score double precision,
  predicted_rating double precision,
  source text,
  model_version bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH wanted AS (
    SELECT live.model_version, models.top_n, CASE WHEN n < 0 THEN 0 ELSE n END AS n
    FROM {mf}.live JOIN {mf}.models USING (model_version)
    WHERE NOT EXISTS (SELECT FROM {mf}.hidden_items AS hidden WHERE hidden.item_id = item)
  ), gap AS MATERIALIZED (
    SELECT stored.user_id, stored.rank
    FROM {mf}.recommendation_rows AS stored
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.item_id = ANY (ARRAY(SELECT hidden.item_id FROM {mf}.hidden_items AS hidden))
  ), whole AS (
    SELECT stored.user_id, stored.rank, stored.score, stored.predicted_rating, stored.source
    FROM {mf}.recommendation_rows AS stored
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.item_id = item
      AND stored.rank <= (SELECT wanted.top_n FROM wanted)
      AND stored.user_id NOT IN (SELECT gap.user_id FROM gap)
      AND stored.user_id NOT IN (SELECT gone.user_id FROM {mf}.forgotten_users AS gone)
    ORDER BY stored.rank, stored.user_id
    LIMIT (SELECT wanted.n FROM wanted)
  ), moved AS (
    SELECT stored.user_id,
           stored.rank - count(*) FILTER (WHERE gap.rank < stored.rank) AS rank,
           stored.score, stored.predicted_rating, stored.source
    FROM gap JOIN {mf}.recommendation_rows AS stored USING (user_id)
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.item_id = item
      AND stored.user_id NOT IN (SELECT gone.user_id FROM {mf}.forgotten_users AS gone)
    GROUP BY stored.user_id, stored.rank, stored.score, stored.predicted_rating, stored.source
  )
  SELECT
    found.user_id,
    found.rank::integer,
    found.score,
    found.predicted_rating,
    found.source,
    (SELECT wanted.model_version FROM wanted)
  FROM (SELECT * FROM whole UNION ALL SELECT * FROM moved) AS found
  WHERE found.rank <= (SELECT wanted.top_n FROM wanted)
  ORDER BY found.rank, found.user_id
  LIMIT (SELECT wanted.n FROM wanted)
$$;

COMMENT ON FUNCTION {mf}.similar(text, integer) IS
  'The n items that are most like an item; without n all that are kept.';
COMMENT ON FUNCTION {mf}.popular(integer, integer, text, text) IS
  'The n most liked items: of all time or the last 7 or 30 days, with a value of an attribute.';
COMMENT ON FUNCTION {mf}.audience(text, integer) IS
  'The n users in whose lists an item stands highest; NULL: all users who have it.';

REVOKE ALL ON FUNCTION
  {mf}.similar(text, integer),
  {mf}.popular(integer, integer, text, text),
  {mf}.audience(text, integer)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  {mf}.similar(text, integer),
  {mf}.popular(integer, integer, text, text),
  {mf}.audience(text, integer)
TO {reader};
GRANT EXECUTE ON FUNCTION {mf}.similar(text, integer) TO {console};
