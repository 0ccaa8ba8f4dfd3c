--
-- PostgreSQL database dump
--

\restrict 0XwWXnC80OapVknOPdEOLPTAWRjwguNHwxcy7t17UrQ2NQ3bHHY3nPI4Ed799B2

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: mf; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA mf;


--
-- Name: SCHEMA mf; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA mf IS 'Ratings, models and recommendations of the nightly retrain. Readers: see docs/tables.md.';


--
-- Name: mf_tune; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA mf_tune;


--
-- Name: SCHEMA mf_tune; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA mf_tune IS 'Studies of mf tune; the tables are Optuna''s.';


--
-- Name: recommendations_for(text, integer); Type: FUNCTION; Schema: mf; Owner: -
--

CREATE FUNCTION mf.recommendations_for(for_user_id text, n integer DEFAULT NULL::integer) RETURNS TABLE(rank integer, item_id text, score double precision, predicted_rating double precision, predicted_rating_sd double precision, source text, model_version bigint, generated_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  WITH wanted AS (
    SELECT live.model_version, models.published_at, greatest(coalesce(n, models.top_n), 0) AS n
    FROM mf.live JOIN mf.models USING (model_version)
  ), own AS (
    SELECT stored.rank, stored.item_id, stored.score, stored.predicted_rating,
           stored.predicted_rating_sd, stored.source, stored.generated_at
    FROM mf.recommendation_rows AS stored
    WHERE stored.model_version = (SELECT wanted.model_version FROM wanted)
      AND stored.user_id = for_user_id
      AND NOT EXISTS (SELECT FROM mf.hidden_items AS hidden WHERE hidden.item_id = stored.item_id)
    ORDER BY stored.rank
    LIMIT (SELECT wanted.n FROM wanted)
  ), popular AS (
    SELECT listed.rank, listed.item_id, listed.score, listed.predicted_rating,
           NULL::double precision, 'popular', (SELECT wanted.published_at FROM wanted)
    FROM mf.popular_items AS listed
    WHERE listed.model_version = (SELECT wanted.model_version FROM wanted)
      AND NOT EXISTS (SELECT FROM own)
      AND NOT EXISTS (SELECT FROM mf.hidden_items AS hidden WHERE hidden.item_id = listed.item_id)
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


--
-- Name: FUNCTION recommendations_for(for_user_id text, n integer); Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON FUNCTION mf.recommendations_for(for_user_id text, n integer) IS 'The n best items for a user; the popular list for a user nobody has seen.';


--
-- Name: split_bucket(text, text, integer); Type: FUNCTION; Schema: mf; Owner: -
--

CREATE FUNCTION mf.split_bucket(user_id text, item_id text, seed integer) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
  -- The first four bytes of the digest as a number, modulo 10,000.
  SELECT ((get_byte(digest, 0) * 16777216::bigint + get_byte(digest, 1) * 65536 + get_byte(digest, 2) * 256
           + get_byte(digest, 3)) % 10000)::integer
  FROM (SELECT sha256(convert_to(
      octet_length(user_id) || ':' || user_id || octet_length(item_id) || ':' || item_id || seed, 'UTF8')) AS digest) AS hashed
$$;


--
-- Name: FUNCTION split_bucket(user_id text, item_id text, seed integer); Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON FUNCTION mf.split_bucket(user_id text, item_id text, seed integer) IS 'Bucket 0..9999 of (user, item, seed): the pair''s side of the hash split.';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: evaluations; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.evaluations (
    snapshot_id text NOT NULL,
    model_version bigint NOT NULL,
    subject text NOT NULL,
    head text NOT NULL,
    metric text NOT NULL,
    slice text NOT NULL,
    value double precision NOT NULL,
    low double precision,
    high double precision,
    n bigint NOT NULL
);


--
-- Name: TABLE evaluations; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.evaluations IS 'Every figure measured on test rows.';


--
-- Name: COLUMN evaluations.snapshot_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.snapshot_id IS 'Snapshot whose test rows were used.';


--
-- Name: COLUMN evaluations.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.model_version IS 'Candidate of the evaluation.';


--
-- Name: COLUMN evaluations.subject; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.subject IS 'candidate, champion, recent_best, global_mean, biases or popularity.';


--
-- Name: COLUMN evaluations.head; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.head IS 'rating or ranking.';


--
-- Name: COLUMN evaluations.metric; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.metric IS 'rmse, mae, average_error, ndcg_at_10, ...';


--
-- Name: COLUMN evaluations.slice; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.slice IS 'all, warm_both, or a group of users or items.';


--
-- Name: COLUMN evaluations.value; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.value IS 'The figure.';


--
-- Name: COLUMN evaluations.low; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.low IS 'Lower end of its 95% interval (bootstrap over users).';


--
-- Name: COLUMN evaluations.high; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.high IS 'Upper end of its 95% interval.';


--
-- Name: COLUMN evaluations.n; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.evaluations.n IS 'Ratings (rating head) or users (ranking head) behind it.';


--
-- Name: forgotten_users; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.forgotten_users (
    user_id text NOT NULL COLLATE pg_catalog."C",
    forgotten_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE forgotten_users; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.forgotten_users IS 'Users that an ingest skips.';


--
-- Name: COLUMN forgotten_users.user_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.forgotten_users.user_id IS 'User whose ratings are never loaded again.';


--
-- Name: COLUMN forgotten_users.forgotten_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.forgotten_users.forgotten_at IS 'Since when.';


--
-- Name: gate_decisions; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.gate_decisions (
    decision_id bigint NOT NULL,
    model_version bigint NOT NULL,
    champion_version bigint,
    stage text DEFAULT 'evaluated'::text NOT NULL,
    approved boolean NOT NULL,
    reasons jsonb NOT NULL,
    decided_by text DEFAULT 'gate'::text NOT NULL,
    decided_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: TABLE gate_decisions; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.gate_decisions IS 'The gate''s verdicts, rule by rule, and people''s overrides.';


--
-- Name: COLUMN gate_decisions.decision_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.decision_id IS 'Number of the decision, in order.';


--
-- Name: COLUMN gate_decisions.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.model_version IS 'Candidate.';


--
-- Name: COLUMN gate_decisions.champion_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.champion_version IS 'Live version that it was judged against; NULL: none.';


--
-- Name: COLUMN gate_decisions.stage; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.stage IS 'evaluated: the gate; refit: the check of the refit; override: a person''s.';


--
-- Name: COLUMN gate_decisions.approved; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.approved IS 'Whether it may go on.';


--
-- Name: COLUMN gate_decisions.reasons; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.reasons IS 'List of rules: rule, passed, text, value, limit.';


--
-- Name: COLUMN gate_decisions.decided_by; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.decided_by IS 'gate, or the person who overrode it.';


--
-- Name: COLUMN gate_decisions.decided_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.gate_decisions.decided_at IS 'When.';


--
-- Name: gate_decisions_decision_id_seq; Type: SEQUENCE; Schema: mf; Owner: -
--

ALTER TABLE mf.gate_decisions ALTER COLUMN decision_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME mf.gate_decisions_decision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: hidden_items; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.hidden_items (
    item_id text NOT NULL COLLATE pg_catalog."C",
    reason text DEFAULT ''::text NOT NULL,
    hidden_by text DEFAULT CURRENT_USER NOT NULL,
    hidden_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE hidden_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.hidden_items IS 'Items hidden from readers at once, whatever version is live.';


--
-- Name: COLUMN hidden_items.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.hidden_items.item_id IS 'Item that readers must not see.';


--
-- Name: COLUMN hidden_items.reason; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.hidden_items.reason IS 'Why.';


--
-- Name: COLUMN hidden_items.hidden_by; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.hidden_items.hidden_by IS 'Who hid it.';


--
-- Name: COLUMN hidden_items.hidden_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.hidden_items.hidden_at IS 'Since when.';


--
-- Name: ingest_batches; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.ingest_batches (
    batch_id bigint NOT NULL,
    source_uri text NOT NULL,
    content_sha256 text NOT NULL,
    fingerprint text NOT NULL,
    mode text NOT NULL,
    state text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    rows_read bigint DEFAULT '0'::bigint NOT NULL,
    rows_rejected bigint DEFAULT '0'::bigint NOT NULL,
    rows_duplicate bigint DEFAULT '0'::bigint NOT NULL,
    rows_inserted bigint DEFAULT '0'::bigint NOT NULL,
    rows_updated bigint DEFAULT '0'::bigint NOT NULL,
    rows_unchanged bigint DEFAULT '0'::bigint NOT NULL,
    rows_removed bigint DEFAULT '0'::bigint NOT NULL,
    total_ratings bigint DEFAULT '0'::bigint NOT NULL
);


--
-- Name: TABLE ingest_batches; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.ingest_batches IS 'One row per batch of ratings that was offered.';


--
-- Name: COLUMN ingest_batches.batch_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.batch_id IS 'Number of the batch, in order of loading.';


--
-- Name: COLUMN ingest_batches.source_uri; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.source_uri IS 'Where the rows came from.';


--
-- Name: COLUMN ingest_batches.content_sha256; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.content_sha256 IS 'sha256 of the source''s bytes.';


--
-- Name: COLUMN ingest_batches.fingerprint; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.fingerprint IS 'sha256 of content and reading settings; equal means nothing new.';


--
-- Name: COLUMN ingest_batches.mode; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.mode IS 'merge or replace.';


--
-- Name: COLUMN ingest_batches.state; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.state IS 'loaded, or refused as a whole.';


--
-- Name: COLUMN ingest_batches.started_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.started_at IS 'When reading began.';


--
-- Name: COLUMN ingest_batches.finished_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.finished_at IS 'When the batch was committed.';


--
-- Name: COLUMN ingest_batches.rows_read; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_read IS 'Rows in the source.';


--
-- Name: COLUMN ingest_batches.rows_rejected; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_rejected IS 'Rows in rejected_ratings.';


--
-- Name: COLUMN ingest_batches.rows_duplicate; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_duplicate IS 'Rows that another row of the same source, for the same user and item, replaced.';


--
-- Name: COLUMN ingest_batches.rows_inserted; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_inserted IS 'Ratings that were new.';


--
-- Name: COLUMN ingest_batches.rows_updated; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_updated IS 'Ratings whose value or date changed.';


--
-- Name: COLUMN ingest_batches.rows_unchanged; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_unchanged IS 'Ratings that stood there already.';


--
-- Name: COLUMN ingest_batches.rows_removed; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.rows_removed IS 'Ratings that the source no longer has (replace).';


--
-- Name: COLUMN ingest_batches.total_ratings; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ingest_batches.total_ratings IS 'Ratings in the table after the batch.';


--
-- Name: ingest_batches_batch_id_seq; Type: SEQUENCE; Schema: mf; Owner: -
--

ALTER TABLE mf.ingest_batches ALTER COLUMN batch_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME mf.ingest_batches_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: items; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.items (
    item_id text NOT NULL COLLATE pg_catalog."C",
    title text,
    attributes jsonb DEFAULT '{}'::jsonb NOT NULL
);


--
-- Name: TABLE items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.items IS 'What is known of items; optional.';


--
-- Name: COLUMN items.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.items.item_id IS 'The source''s item id.';


--
-- Name: COLUMN items.title; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.items.title IS 'Title for people to read.';


--
-- Name: COLUMN items.attributes; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.items.attributes IS 'Whatever else the source says of the item.';


--
-- Name: live; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.live (
    "only" boolean DEFAULT true NOT NULL,
    model_version bigint
);


--
-- Name: TABLE live; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.live IS 'One row: which version readers see.';


--
-- Name: COLUMN live."only"; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.live."only" IS 'Holds the table to one row.';


--
-- Name: COLUMN live.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.live.model_version IS 'Version that readers see; NULL: none yet.';


--
-- Name: model_artifacts; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.model_artifacts (
    model_version bigint NOT NULL,
    head text NOT NULL,
    stage text NOT NULL,
    uri text NOT NULL,
    sha256 text NOT NULL,
    split_id text NOT NULL,
    iterations integer NOT NULL
);


--
-- Name: TABLE model_artifacts; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.model_artifacts IS 'The factor models of each version.';


--
-- Name: COLUMN model_artifacts.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.model_version IS 'Version.';


--
-- Name: COLUMN model_artifacts.head; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.head IS 'rating or ranking.';


--
-- Name: COLUMN model_artifacts.stage; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.stage IS 'evaluated or refit.';


--
-- Name: COLUMN model_artifacts.uri; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.uri IS 'Where the factors lie.';


--
-- Name: COLUMN model_artifacts.sha256; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.sha256 IS 'sha256 of the artifact''s manifest.';


--
-- Name: COLUMN model_artifacts.split_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.split_id IS 'Split whose training side (evaluated) or both sides (refit) it saw.';


--
-- Name: COLUMN model_artifacts.iterations; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_artifacts.iterations IS 'Iterations that the fit ended with.';


--
-- Name: models; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.models (
    model_version bigint NOT NULL,
    run_key text NOT NULL,
    state text DEFAULT 'created'::text NOT NULL,
    snapshot_id text NOT NULL,
    split_id text NOT NULL,
    champion_version bigint,
    training_fingerprint text NOT NULL,
    config jsonb NOT NULL,
    code_version text NOT NULL,
    device text,
    fit_seconds double precision,
    top_n integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    published_at timestamp with time zone,
    retired_at timestamp with time zone,
    warm_started_from bigint,
    stopped_in text,
    CONSTRAINT models_state_check CHECK ((state = ANY (ARRAY['created'::text, 'trained'::text, 'evaluated'::text, 'refused'::text, 'approved'::text, 'dry_run'::text, 'published'::text, 'retired'::text, 'stopped'::text])))
);


--
-- Name: TABLE models; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.models IS 'Every model version: its state and its lineage.';


--
-- Name: COLUMN models.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.model_version IS 'Number of the run''s bundle of models and lists.';


--
-- Name: COLUMN models.run_key; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.run_key IS 'The run that made it; the same run gets the same version.';


--
-- Name: COLUMN models.state; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.state IS 'One of the states of docs/architecture.md, such as approved or published.';


--
-- Name: COLUMN models.snapshot_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.snapshot_id IS 'Snapshot that it was trained on.';


--
-- Name: COLUMN models.split_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.split_id IS 'The snapshot''s split.';


--
-- Name: COLUMN models.champion_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.champion_version IS 'Live version that it was judged against; NULL: none.';


--
-- Name: COLUMN models.training_fingerprint; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.training_fingerprint IS 'sha256 of the settings that shape the result.';


--
-- Name: COLUMN models.config; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.config IS 'All settings of the run.';


--
-- Name: COLUMN models.code_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.code_version IS 'Version of the code.';


--
-- Name: COLUMN models.device; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.device IS 'Device that it was trained on.';


--
-- Name: COLUMN models.fit_seconds; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.fit_seconds IS 'Seconds of training, imports excluded.';


--
-- Name: COLUMN models.top_n; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.top_n IS 'Recommendations per user that readers see.';


--
-- Name: COLUMN models.created_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.created_at IS 'When the run took its snapshot.';


--
-- Name: COLUMN models.published_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.published_at IS 'When it first went live.';


--
-- Name: COLUMN models.retired_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.retired_at IS 'When its rows were dropped.';


--
-- Name: COLUMN models.warm_started_from; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.warm_started_from IS 'Version whose evaluated model its own started from; NULL: a cold start.';


--
-- Name: COLUMN models.stopped_in; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.models.stopped_in IS 'State that a stopped run had reached; NULL: it goes on.';


--
-- Name: promotions; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.promotions (
    promotion_id bigint NOT NULL,
    model_version bigint NOT NULL,
    previous_version bigint,
    action text NOT NULL,
    promoted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    promoted_by text DEFAULT CURRENT_USER NOT NULL,
    how text NOT NULL,
    overridden_by text,
    reason text,
    CONSTRAINT promotions_how_check CHECK ((how = ANY (ARRAY['gate'::text, 'override'::text, 'rollback'::text])))
);


--
-- Name: TABLE promotions; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.promotions IS 'Every change of mf.live.';


--
-- Name: COLUMN promotions.promotion_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.promotion_id IS 'Number of the change of mf.live, in order.';


--
-- Name: COLUMN promotions.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.model_version IS 'Version that went live.';


--
-- Name: COLUMN promotions.previous_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.previous_version IS 'Version that was live before; NULL: none.';


--
-- Name: COLUMN promotions.action; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.action IS 'publish or rollback.';


--
-- Name: COLUMN promotions.promoted_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.promoted_at IS 'When.';


--
-- Name: COLUMN promotions.promoted_by; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.promoted_by IS 'Person or system that did it.';


--
-- Name: COLUMN promotions.how; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.how IS 'By the gate''s approval, a person''s override of its refusal, or a rollback.';


--
-- Name: COLUMN promotions.overridden_by; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.overridden_by IS 'Person who overrode the gate''s refusal; NULL: nobody.';


--
-- Name: COLUMN promotions.reason; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.promotions.reason IS 'Why the refusal was overridden; NULL: it was not.';


--
-- Name: snapshots; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.snapshots (
    snapshot_id text NOT NULL,
    split_id text NOT NULL,
    uri text NOT NULL,
    sha256 text NOT NULL,
    protocol text NOT NULL,
    n_train bigint DEFAULT '0'::bigint NOT NULL,
    n_test bigint DEFAULT '0'::bigint NOT NULL,
    n_users bigint DEFAULT '0'::bigint NOT NULL,
    n_items bigint DEFAULT '0'::bigint NOT NULL,
    cold_users bigint DEFAULT '0'::bigint NOT NULL,
    cold_items bigint DEFAULT '0'::bigint NOT NULL,
    cold_test_ratings bigint DEFAULT '0'::bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    unrated_users bigint DEFAULT '0'::bigint NOT NULL,
    unrated_items bigint DEFAULT '0'::bigint NOT NULL
);


--
-- Name: TABLE snapshots; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.snapshots IS 'Immutable train/test snapshots.';


--
-- Name: COLUMN snapshots.snapshot_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.snapshot_id IS 'First half of the sha256 over the sorted content and the split.';


--
-- Name: COLUMN snapshots.split_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.split_id IS 'Protocol, seed and fraction, hashed: equal means comparable sides.';


--
-- Name: COLUMN snapshots.uri; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.uri IS 'Where the snapshot lies.';


--
-- Name: COLUMN snapshots.sha256; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.sha256 IS 'sha256 of the snapshot''s manifest.';


--
-- Name: COLUMN snapshots.protocol; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.protocol IS 'hash, temporal, leave_last or given.';


--
-- Name: COLUMN snapshots.n_train; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.n_train IS 'Ratings on the training side.';


--
-- Name: COLUMN snapshots.n_test; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.n_test IS 'Ratings on the test side.';


--
-- Name: COLUMN snapshots.n_users; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.n_users IS 'Users on either side.';


--
-- Name: COLUMN snapshots.n_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.n_items IS 'Items on either side.';


--
-- Name: COLUMN snapshots.cold_users; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.cold_users IS 'Users on the test side only.';


--
-- Name: COLUMN snapshots.cold_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.cold_items IS 'Items on the test side only.';


--
-- Name: COLUMN snapshots.cold_test_ratings; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.cold_test_ratings IS 'Test ratings of a cold user or item.';


--
-- Name: COLUMN snapshots.created_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.created_at IS 'When it was first written.';


--
-- Name: COLUMN snapshots.unrated_users; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.unrated_users IS 'Further users, with attributes and no rating.';


--
-- Name: COLUMN snapshots.unrated_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.snapshots.unrated_items IS 'Further items, with attributes and no rating.';


--
-- Name: model_history; Type: VIEW; Schema: mf; Owner: -
--

CREATE VIEW mf.model_history AS
 SELECT models.model_version,
    models.state,
    (NOT (models.model_version IS DISTINCT FROM ( SELECT live.model_version
           FROM mf.live))) AS is_live,
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
    promotion.went_live
   FROM ((((mf.models
     JOIN mf.snapshots USING (snapshot_id))
     LEFT JOIN LATERAL ( SELECT max(e.value) FILTER (WHERE (e.metric = 'rmse'::text)) AS rmse,
            max(e.value) FILTER (WHERE (e.metric = 'mae'::text)) AS mae,
            max(e.value) FILTER (WHERE (e.metric = 'ndcg_at_10'::text)) AS ndcg_at_10,
            max(e.value) FILTER (WHERE (e.metric ~ '^ndcg_at_[0-9]+$'::text)) AS ndcg,
            max(("substring"(e.metric, '^ndcg_at_([0-9]+)$'::text))::integer) AS cutoff
           FROM mf.evaluations e
          WHERE ((e.model_version = models.model_version) AND (e.subject = 'candidate'::text) AND (e.slice = 'all'::text))) figures ON (true))
     LEFT JOIN LATERAL ( SELECT d.approved,
            d.decided_by,
            d.decided_at
           FROM mf.gate_decisions d
          WHERE (d.model_version = models.model_version)
          ORDER BY d.decision_id DESC
         LIMIT 1) decision ON (true))
     LEFT JOIN LATERAL ( SELECT
                CASE p.how
                    WHEN 'gate'::text THEN 'by the gate'::text
                    WHEN 'override'::text THEN format('by an override of %s: %s'::text, p.overridden_by, p.reason)
                    WHEN 'rollback'::text THEN format('by a rollback of %s, from version %s'::text, p.promoted_by, p.previous_version)
                    ELSE NULL::text
                END AS went_live
           FROM mf.promotions p
          WHERE (p.model_version = models.model_version)
          ORDER BY p.promotion_id DESC
         LIMIT 1) promotion ON (true));


--
-- Name: VIEW model_history; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON VIEW mf.model_history IS 'Every model version, newest figures and latest verdict included.';


--
-- Name: COLUMN model_history.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.model_version IS 'Version.';


--
-- Name: COLUMN model_history.state; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.state IS 'Where the version stands: approved, refused, published, ...; see docs/architecture.md.';


--
-- Name: COLUMN model_history.is_live; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.is_live IS 'Whether readers see it now.';


--
-- Name: COLUMN model_history.created_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.created_at IS 'When the run took its snapshot.';


--
-- Name: COLUMN model_history.published_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.published_at IS 'When it first went live.';


--
-- Name: COLUMN model_history.retired_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.retired_at IS 'When its rows were dropped.';


--
-- Name: COLUMN model_history.snapshot_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.snapshot_id IS 'Snapshot that it was trained on.';


--
-- Name: COLUMN model_history.split_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.split_id IS 'Split of that snapshot.';


--
-- Name: COLUMN model_history.n_train; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.n_train IS 'Training ratings.';


--
-- Name: COLUMN model_history.n_test; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.n_test IS 'Test ratings.';


--
-- Name: COLUMN model_history.rmse; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.rmse IS 'Test RMSE of the rating head.';


--
-- Name: COLUMN model_history.mae; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.mae IS 'Test mean absolute error of the rating head.';


--
-- Name: COLUMN model_history.ndcg_at_10; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.ndcg_at_10 IS 'NDCG@10 of the lists on the test rows; NULL if another cutoff was set (see ndcg).';


--
-- Name: COLUMN model_history.approved; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.approved IS 'Latest verdict.';


--
-- Name: COLUMN model_history.decided_by; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.decided_by IS 'gate, or the person who overrode it.';


--
-- Name: COLUMN model_history.decided_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.decided_at IS 'When.';


--
-- Name: COLUMN model_history.device; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.device IS 'Device that it was trained on.';


--
-- Name: COLUMN model_history.fit_seconds; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.fit_seconds IS 'Seconds of training.';


--
-- Name: COLUMN model_history.code_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.code_version IS 'Version of the code, with the hash of its sources and the commit.';


--
-- Name: COLUMN model_history.ndcg; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.ndcg IS 'NDCG of the lists on the test rows, at cutoff.';


--
-- Name: COLUMN model_history.cutoff; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.cutoff IS 'Length of the lists that ndcg looks at.';


--
-- Name: COLUMN model_history.went_live; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.model_history.went_live IS 'How the version last went live: by the gate, by an override (who, why), by a rollback (who).';


--
-- Name: models_model_version_seq; Type: SEQUENCE; Schema: mf; Owner: -
--

ALTER TABLE mf.models ALTER COLUMN model_version ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME mf.models_model_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: popular_items; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.popular_items (
    model_version bigint NOT NULL,
    rank integer NOT NULL,
    item_id text NOT NULL COLLATE pg_catalog."C",
    score double precision NOT NULL,
    predicted_rating double precision NOT NULL
);


--
-- Name: TABLE popular_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.popular_items IS 'The list for users that a version does not know.';


--
-- Name: COLUMN popular_items.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.popular_items.model_version IS 'Version.';


--
-- Name: COLUMN popular_items.rank; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.popular_items.rank IS 'Place in the list, from 1.';


--
-- Name: COLUMN popular_items.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.popular_items.item_id IS 'Item.';


--
-- Name: COLUMN popular_items.score; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.popular_items.score IS 'Number of relevant ratings.';


--
-- Name: COLUMN popular_items.predicted_rating; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.popular_items.predicted_rating IS 'The rating head''s prediction for an unknown user.';


--
-- Name: promotions_promotion_id_seq; Type: SEQUENCE; Schema: mf; Owner: -
--

ALTER TABLE mf.promotions ALTER COLUMN promotion_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME mf.promotions_promotion_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: ratings; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.ratings (
    user_id text NOT NULL COLLATE pg_catalog."C",
    item_id text NOT NULL COLLATE pg_catalog."C",
    rating double precision NOT NULL,
    rated_at timestamp with time zone,
    side text,
    batch_id bigint NOT NULL
);


--
-- Name: TABLE ratings; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.ratings IS 'The current rating of every (user, item) pair.';


--
-- Name: COLUMN ratings.user_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.user_id IS 'The source''s user id.';


--
-- Name: COLUMN ratings.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.item_id IS 'The source''s item id.';


--
-- Name: COLUMN ratings.rating; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.rating IS 'The rating, on the source''s scale.';


--
-- Name: COLUMN ratings.rated_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.rated_at IS 'When it was given; NULL: unknown.';


--
-- Name: COLUMN ratings.side; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.side IS 'Side that the source gave the row (split protocol given).';


--
-- Name: COLUMN ratings.batch_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.ratings.batch_id IS 'Batch that last set the row.';


--
-- Name: recommendation_rows; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.recommendation_rows (
    model_version bigint NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    rank integer NOT NULL,
    item_id text NOT NULL COLLATE pg_catalog."C",
    score double precision NOT NULL,
    predicted_rating double precision NOT NULL,
    predicted_rating_sd double precision,
    source text NOT NULL,
    generated_at timestamp with time zone NOT NULL
)
PARTITION BY LIST (model_version);


--
-- Name: TABLE recommendation_rows; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.recommendation_rows IS 'Recommendations of the kept versions, one partition each, with their reserve; readers use the view.';


--
-- Name: COLUMN recommendation_rows.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.model_version IS 'Version that the row belongs to.';


--
-- Name: COLUMN recommendation_rows.user_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.user_id IS 'User.';


--
-- Name: COLUMN recommendation_rows.rank; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.rank IS 'Place in the stored list, from 1; the reserve follows the list.';


--
-- Name: COLUMN recommendation_rows.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.item_id IS 'Recommended item.';


--
-- Name: COLUMN recommendation_rows.score; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.score IS 'What the list is ordered by.';


--
-- Name: COLUMN recommendation_rows.predicted_rating; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.predicted_rating IS 'The rating head''s prediction, within the rating scale.';


--
-- Name: COLUMN recommendation_rows.predicted_rating_sd; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.predicted_rating_sd IS 'Standard deviation of the predicted rating; NULL: the solver gives none.';


--
-- Name: COLUMN recommendation_rows.source; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.source IS 'model, or popular for a user without a positive rating.';


--
-- Name: COLUMN recommendation_rows.generated_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendation_rows.generated_at IS 'When the row was computed.';


--
-- Name: recommendation_rows_v1; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.recommendation_rows_v1 (
    model_version bigint CONSTRAINT recommendation_rows_model_version_not_null NOT NULL,
    user_id text CONSTRAINT recommendation_rows_user_id_not_null NOT NULL COLLATE pg_catalog."C",
    rank integer CONSTRAINT recommendation_rows_rank_not_null NOT NULL,
    item_id text CONSTRAINT recommendation_rows_item_id_not_null NOT NULL COLLATE pg_catalog."C",
    score double precision CONSTRAINT recommendation_rows_score_not_null NOT NULL,
    predicted_rating double precision CONSTRAINT recommendation_rows_predicted_rating_not_null NOT NULL,
    predicted_rating_sd double precision,
    source text CONSTRAINT recommendation_rows_source_not_null NOT NULL,
    generated_at timestamp with time zone CONSTRAINT recommendation_rows_generated_at_not_null NOT NULL,
    CONSTRAINT recommendation_rows_v1_version_check CHECK ((model_version = 1))
);


--
-- Name: recommendation_rows_v2; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.recommendation_rows_v2 (
    model_version bigint CONSTRAINT recommendation_rows_model_version_not_null NOT NULL,
    user_id text CONSTRAINT recommendation_rows_user_id_not_null NOT NULL COLLATE pg_catalog."C",
    rank integer CONSTRAINT recommendation_rows_rank_not_null NOT NULL,
    item_id text CONSTRAINT recommendation_rows_item_id_not_null NOT NULL COLLATE pg_catalog."C",
    score double precision CONSTRAINT recommendation_rows_score_not_null NOT NULL,
    predicted_rating double precision CONSTRAINT recommendation_rows_predicted_rating_not_null NOT NULL,
    predicted_rating_sd double precision,
    source text CONSTRAINT recommendation_rows_source_not_null NOT NULL,
    generated_at timestamp with time zone CONSTRAINT recommendation_rows_generated_at_not_null NOT NULL,
    CONSTRAINT recommendation_rows_v2_version_check CHECK ((model_version = 2))
);


--
-- Name: recommendations; Type: VIEW; Schema: mf; Owner: -
--

CREATE VIEW mf.recommendations AS
 SELECT user_id,
    (place)::integer AS rank,
    item_id,
    score,
    predicted_rating,
    predicted_rating_sd,
    source,
    model_version,
    generated_at
   FROM ( SELECT stored.model_version,
            stored.user_id,
            stored.rank,
            stored.item_id,
            stored.score,
            stored.predicted_rating,
            stored.predicted_rating_sd,
            stored.source,
            stored.generated_at,
            row_number() OVER (PARTITION BY stored.user_id ORDER BY stored.rank) AS place
           FROM mf.recommendation_rows stored
          WHERE ((stored.model_version = ( SELECT live.model_version
                   FROM mf.live)) AND (NOT (EXISTS ( SELECT
                   FROM mf.hidden_items hidden
                  WHERE (hidden.item_id = stored.item_id)))))) visible
  WHERE (place <= ( SELECT models.top_n
           FROM (mf.models
             JOIN mf.live USING (model_version))));


--
-- Name: VIEW recommendations; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON VIEW mf.recommendations IS 'The live recommendations: one row per user and rank. Columns are only ever appended.';


--
-- Name: COLUMN recommendations.user_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.user_id IS 'User.';


--
-- Name: COLUMN recommendations.rank; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.rank IS 'Place in the user''s list, from 1.';


--
-- Name: COLUMN recommendations.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.item_id IS 'Recommended item, never one that the user has rated or that is hidden.';


--
-- Name: COLUMN recommendations.score; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.score IS 'What the list is ordered by; compare within a user only.';


--
-- Name: COLUMN recommendations.predicted_rating; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.predicted_rating IS 'Predicted rating, on the ratings'' scale.';


--
-- Name: COLUMN recommendations.predicted_rating_sd; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.predicted_rating_sd IS 'Its standard deviation; NULL where the solver gives none.';


--
-- Name: COLUMN recommendations.source; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.source IS 'model, or popular for a user without a positive rating.';


--
-- Name: COLUMN recommendations.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.model_version IS 'Version that made the row.';


--
-- Name: COLUMN recommendations.generated_at; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.recommendations.generated_at IS 'When the row was computed.';


--
-- Name: rejected_ratings; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.rejected_ratings (
    batch_id bigint NOT NULL,
    file text NOT NULL,
    line bigint NOT NULL,
    raw text NOT NULL,
    reason text NOT NULL
);


--
-- Name: TABLE rejected_ratings; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.rejected_ratings IS 'Rows that were not loaded, and why.';


--
-- Name: COLUMN rejected_ratings.batch_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.rejected_ratings.batch_id IS 'Batch that held the row.';


--
-- Name: COLUMN rejected_ratings.file; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.rejected_ratings.file IS 'File, or member of an archive, that held the row.';


--
-- Name: COLUMN rejected_ratings.line; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.rejected_ratings.line IS 'Line number in the file, from 1.';


--
-- Name: COLUMN rejected_ratings.raw; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.rejected_ratings.raw IS 'The row as it came; NUL bytes are written \x00.';


--
-- Name: COLUMN rejected_ratings.reason; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.rejected_ratings.reason IS 'What was wrong with it.';


--
-- Name: similar_items; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.similar_items (
    model_version bigint NOT NULL,
    item_id text NOT NULL COLLATE pg_catalog."C",
    rank integer NOT NULL,
    similar_item_id text NOT NULL COLLATE pg_catalog."C",
    score double precision NOT NULL
);


--
-- Name: TABLE similar_items; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.similar_items IS 'The most similar items of each item.';


--
-- Name: COLUMN similar_items.model_version; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.similar_items.model_version IS 'Version.';


--
-- Name: COLUMN similar_items.item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.similar_items.item_id IS 'Item.';


--
-- Name: COLUMN similar_items.rank; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.similar_items.rank IS 'Place in the list, from 1.';


--
-- Name: COLUMN similar_items.similar_item_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.similar_items.similar_item_id IS 'Similar item.';


--
-- Name: COLUMN similar_items.score; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.similar_items.score IS 'Cosine of the two items'' ranking factors.';


--
-- Name: users; Type: TABLE; Schema: mf; Owner: -
--

CREATE TABLE mf.users (
    user_id text NOT NULL COLLATE pg_catalog."C",
    attributes jsonb DEFAULT '{}'::jsonb NOT NULL
);


--
-- Name: TABLE users; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON TABLE mf.users IS 'What is known of users; optional.';


--
-- Name: COLUMN users.user_id; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.users.user_id IS 'The source''s user id.';


--
-- Name: COLUMN users.attributes; Type: COMMENT; Schema: mf; Owner: -
--

COMMENT ON COLUMN mf.users.attributes IS 'Whatever the source says of the user.';


--
-- Name: recommendation_rows_v1; Type: TABLE ATTACH; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.recommendation_rows ATTACH PARTITION mf.recommendation_rows_v1 FOR VALUES IN ('1');


--
-- Name: recommendation_rows_v2; Type: TABLE ATTACH; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.recommendation_rows ATTACH PARTITION mf.recommendation_rows_v2 FOR VALUES IN ('2');


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.alembic_version (version_num) FROM stdin;
0006
\.


--
-- Data for Name: evaluations; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.evaluations (snapshot_id, model_version, subject, head, metric, slice, value, low, high, n) FROM stdin;
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	all	0.8703165189312344	0.6635335412854557	1.0345005758435397	67
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	mae	all	0.6462869963492454	0.4863848933780684	0.7863184004505306	67
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	average_error	all	0.3787254215622909	0.22013933252881598	0.5350972931625303	67
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	users_few_ratings	0.9167365571866445	0.6174016416419035	1.100842694677784	46
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	users_some_ratings	0.9082460203147323	0.30751097046878595	1.168279512215585	6
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	users_many_ratings	0.6899791970704762	0.45980124084251867	0.8963837466813407	15
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	items_few_ratings	0.758808223632078	0.5990720772450806	0.8910797813522587	46
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	items_some_ratings	1.1887107106967412	0.3347967176924862	1.608964919534074	9
fa2ae1cce2f3-3a4c400911306737	1	candidate	rating	rmse	items_many_ratings	0.98088275608606	0.49681880959851765	1.3459223975633068	12
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	ndcg_at_3	all	0.17296920905781402	0.07492892202563413	0.29489030416200296	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	recall_at_3	all	0.20833333333333331	0.10011160714285713	0.3333333333333333	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	map_at_3	all	0.11631944444444445	0.04255718954248366	0.20792534722222217	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	hit_rate_at_3	all	0.4375	0.2067857142857143	0.6963461538461537	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	ndcg_at_3	users_few_ratings	0.2460933748542295	0.12182887952120441	0.376937052372406	10
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	ndcg_at_3	users_some_ratings	0	0	0	2
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	ndcg_at_3	users_many_ratings	0.0766433990956823	0	0.2299301972870469	4
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	coverage_at_3	all	1	\N	\N	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	novelty_at_3	all	3.98896218607979	\N	\N	16
fa2ae1cce2f3-3a4c400911306737	1	candidate	ranking	gini_at_3	all	0.21614583333333334	\N	\N	16
fa2ae1cce2f3-3a4c400911306737	1	global_mean	rating	rmse	all	1.1111707056883013	0.9290849659369192	1.287187860413886	67
fa2ae1cce2f3-3a4c400911306737	1	global_mean	rating	mae	all	0.9070311019669718	0.7678769077803638	1.049936255489487	67
fa2ae1cce2f3-3a4c400911306737	1	global_mean	rating	average_error	all	0.6173501685899188	0.4316277677983739	0.8285911636620601	67
fa2ae1cce2f3-3a4c400911306737	1	biases	rating	rmse	all	1.0279536488413124	0.7819182378732119	1.2512974341841472	67
fa2ae1cce2f3-3a4c400911306737	1	biases	rating	mae	all	0.7649175586985119	0.5729423017115206	0.964323656495876	67
fa2ae1cce2f3-3a4c400911306737	1	biases	rating	average_error	all	0.5283443520830841	0.3056982972481745	0.7829232137546549	67
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	ndcg_at_3	all	0.29615181928467543	0.1633925421916095	0.46811087307360916	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	recall_at_3	all	0.38541666666666663	0.19279411764705884	0.611111111111111	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	map_at_3	all	0.234375	0.13060897435897434	0.37368055555555557	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	hit_rate_at_3	all	0.5	0.25625	0.75	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	coverage_at_3	all	0.625	\N	\N	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	novelty_at_3	all	4.072432093505774	\N	\N	16
fa2ae1cce2f3-3a4c400911306737	1	popularity	ranking	gini_at_3	all	0.609375	\N	\N	16
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	all	0.8867121376532204	0.7077372770130164	1.0565919212357275	75
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	mae	all	0.6701155997723308	0.526765045996026	0.8276415314506655	75
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	average_error	all	0.39312920753077185	0.25044721124832764	0.5582894953171466	75
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	users_few_ratings	1.1198610690185762	0.8635312564832807	1.2752865833314693	32
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	users_some_ratings	0.640836919911967	0.3911599505866053	0.8643954388396506	28
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	users_many_ratings	0.6995105080403433	0.5215871401916007	0.9946353082061837	15
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	items_few_ratings	0.7597855421065499	0.56928397711683	0.9895408261182556	37
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	items_some_ratings	0.974406600029997	0.6898430905762809	1.2683538549759463	26
fa2ae1cce2f3-ef92566a724284b4	2	candidate	rating	rmse	items_many_ratings	1.0377887856359136	0.5404490346287221	1.3994094842548574	12
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	ndcg_at_3	all	0.18082829066516196	0.06066809851718879	0.343797531060521	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	recall_at_3	all	0.196078431372549	0.07788461538461539	0.37223557692307646	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	map_at_3	all	0.13888888888888887	0.03974358974358974	0.2789702119883039	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	hit_rate_at_3	all	0.35294117647058826	0.14307692307692307	0.6204326923076923	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	ndcg_at_3	users_few_ratings	0.3065735963827292	0.08184420117717503	0.5571975114256102	8
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	ndcg_at_3	users_some_ratings	0.04692787260227564	0	0.14078361780682694	5
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	ndcg_at_3	users_many_ratings	0.09671320180863541	0	0.38685280723454163	4
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	coverage_at_3	all	1	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	novelty_at_3	all	3.9884738947710208	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	candidate	ranking	gini_at_3	all	0.17034313725490197	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	global_mean	rating	rmse	all	1.109515339265501	0.8959398463477678	1.291947798474388	75
fa2ae1cce2f3-ef92566a724284b4	2	global_mean	rating	mae	all	0.8998501904805501	0.7412089489515011	1.053483149584602	75
fa2ae1cce2f3-ef92566a724284b4	2	global_mean	rating	average_error	all	0.6155121440327199	0.40136960398897464	0.8345649996994534	75
fa2ae1cce2f3-ef92566a724284b4	2	biases	rating	rmse	all	1.0283512313595298	0.7945132700208188	1.2421813720555597	75
fa2ae1cce2f3-ef92566a724284b4	2	biases	rating	mae	all	0.7611260986328126	0.5917633342916405	0.9659824893492764	75
fa2ae1cce2f3-ef92566a724284b4	2	biases	rating	average_error	all	0.5287531275193306	0.3156258320884902	0.7715129232619234	75
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	ndcg_at_3	all	0.3184748794921223	0.1970030892749043	0.47505772199377616	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	recall_at_3	all	0.45098039215686275	0.2703846153846154	0.6252314814814813	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	map_at_3	all	0.24019607843137253	0.14708333333333332	0.3799763832658569	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	hit_rate_at_3	all	0.5882352941176471	0.3333333333333333	0.787687969924812	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	coverage_at_3	all	0.625	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	novelty_at_3	all	4.005233101699598	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	popularity	ranking	gini_at_3	all	0.5992647058823529	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	rating	rmse	all	0.8632530871601408	0.6865462438144928	1.0215584932027968	75
fa2ae1cce2f3-ef92566a724284b4	2	champion	rating	mae	all	0.6479596671367897	0.5035750274729857	0.8072100475071854	75
fa2ae1cce2f3-ef92566a724284b4	2	champion	rating	average_error	all	0.37260294624575685	0.23567290692499487	0.5218730760682272	75
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	ndcg_at_3	all	0.20358433814954677	0.0958038204104603	0.3210656010728305	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	recall_at_3	all	0.2549019607843137	0.13241228070175437	0.39986293859649114	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	map_at_3	all	0.14379084967320263	0.06716331269349846	0.23571537990196076	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	hit_rate_at_3	all	0.47058823529411764	0.24375	0.726127819548872	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	coverage_at_3	all	1	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	novelty_at_3	all	4.004304383438817	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	gini_at_3	all	0.2267156862745098	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	rating	rmse_loss	all	0.023459050493079614	2.0739332771879923e-05	0.059946071213445994	75
fa2ae1cce2f3-ef92566a724284b4	2	champion	rating	rmse_loss	warm_both	0.006434978580511452	-0.01203858633698257	0.02353565003151138	68
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	ndcg_at_3_loss	all	0.02275604748438481	-0.04860929438958556	0.12115080354427515	17
fa2ae1cce2f3-ef92566a724284b4	2	champion	ranking	ndcg_at_3_loss	warm_both	-0.019160849773920574	-0.07003708903600189	0.033688528664252114	16
fa2ae1cce2f3-ef92566a724284b4	2	recent_best	rating	rmse_loss	all	0.023459050493079614	2.0739332771879923e-05	0.059946071213445994	75
fa2ae1cce2f3-ef92566a724284b4	2	recent_best	rating	rmse_loss	warm_both	0.006434978580511452	-0.01203858633698257	0.02353565003151138	68
fa2ae1cce2f3-ef92566a724284b4	2	recent_best	ranking	ndcg_at_3_loss	all	0.02275604748438481	-0.04860929438958556	0.12115080354427515	17
fa2ae1cce2f3-ef92566a724284b4	2	recent_best	ranking	ndcg_at_3_loss	warm_both	-0.019160849773920574	-0.07003708903600189	0.033688528664252114	16
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	all	0.8867121376532204	0.7077372770130164	1.0565919212357275	75
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	mae	all	0.6701155997723308	0.526765045996026	0.8276415314506655	75
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	average_error	all	0.39312920753077185	0.25044721124832764	0.5582894953171466	75
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	users_few_ratings	1.1198610690185762	0.8635312564832807	1.2752865833314693	32
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	users_some_ratings	0.640836919911967	0.3911599505866053	0.8643954388396506	28
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	users_many_ratings	0.6995105080403433	0.5215871401916007	0.9946353082061837	15
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	items_few_ratings	0.7597855421065499	0.56928397711683	0.9895408261182556	37
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	items_some_ratings	0.974406600029997	0.6898430905762809	1.2683538549759463	26
fa2ae1cce2f3-ef92566a724284b4	3	candidate	rating	rmse	items_many_ratings	1.0377887856359136	0.5404490346287221	1.3994094842548574	12
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	ndcg_at_3	all	0.18082829066516196	0.06066809851718879	0.343797531060521	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	recall_at_3	all	0.196078431372549	0.07788461538461539	0.37223557692307646	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	map_at_3	all	0.13888888888888887	0.03974358974358974	0.2789702119883039	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	hit_rate_at_3	all	0.35294117647058826	0.14307692307692307	0.6204326923076923	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	ndcg_at_3	users_few_ratings	0.3065735963827292	0.08184420117717503	0.5571975114256102	8
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	ndcg_at_3	users_some_ratings	0.04692787260227564	0	0.14078361780682694	5
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	ndcg_at_3	users_many_ratings	0.09671320180863541	0	0.38685280723454163	4
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	coverage_at_3	all	1	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	novelty_at_3	all	3.9884738947710208	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	candidate	ranking	gini_at_3	all	0.17034313725490197	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	global_mean	rating	rmse	all	1.109515339265501	0.8959398463477678	1.291947798474388	75
fa2ae1cce2f3-ef92566a724284b4	3	global_mean	rating	mae	all	0.8998501904805501	0.7412089489515011	1.053483149584602	75
fa2ae1cce2f3-ef92566a724284b4	3	global_mean	rating	average_error	all	0.6155121440327199	0.40136960398897464	0.8345649996994534	75
fa2ae1cce2f3-ef92566a724284b4	3	biases	rating	rmse	all	1.0283512313595298	0.7945132700208188	1.2421813720555597	75
fa2ae1cce2f3-ef92566a724284b4	3	biases	rating	mae	all	0.7611260986328126	0.5917633342916405	0.9659824893492764	75
fa2ae1cce2f3-ef92566a724284b4	3	biases	rating	average_error	all	0.5287531275193306	0.3156258320884902	0.7715129232619234	75
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	ndcg_at_3	all	0.3184748794921223	0.1970030892749043	0.47505772199377616	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	recall_at_3	all	0.45098039215686275	0.2703846153846154	0.6252314814814813	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	map_at_3	all	0.24019607843137253	0.14708333333333332	0.3799763832658569	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	hit_rate_at_3	all	0.5882352941176471	0.3333333333333333	0.787687969924812	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	coverage_at_3	all	0.625	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	novelty_at_3	all	4.005233101699598	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	popularity	ranking	gini_at_3	all	0.5992647058823529	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	rating	rmse	all	0.8867121376532204	0.7077372770130165	1.0565919212357273	75
fa2ae1cce2f3-ef92566a724284b4	3	champion	rating	mae	all	0.6701155997723308	0.526765045996026	0.8276415314506655	75
fa2ae1cce2f3-ef92566a724284b4	3	champion	rating	average_error	all	0.39312920753077185	0.25044721124832764	0.5582894953171464	75
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	ndcg_at_3	all	0.18082829066516196	0.06066809851718879	0.343797531060521	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	recall_at_3	all	0.196078431372549	0.07788461538461539	0.37223557692307646	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	map_at_3	all	0.13888888888888887	0.03974358974358974	0.27897021198830385	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	hit_rate_at_3	all	0.35294117647058826	0.14307692307692307	0.6204326923076923	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	coverage_at_3	all	1	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	novelty_at_3	all	3.9884738947710208	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	gini_at_3	all	0.17034313725490197	\N	\N	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	rating	rmse_loss	all	0	0	0	75
fa2ae1cce2f3-ef92566a724284b4	3	champion	rating	rmse_loss	warm_both	0	0	0	75
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	ndcg_at_3_loss	all	0	0	0	17
fa2ae1cce2f3-ef92566a724284b4	3	champion	ranking	ndcg_at_3_loss	warm_both	0	0	0	17
fa2ae1cce2f3-ef92566a724284b4	3	recent_best	rating	rmse_loss	all	0.023459050493079614	2.0739332771879923e-05	0.059946071213445994	75
fa2ae1cce2f3-ef92566a724284b4	3	recent_best	rating	rmse_loss	warm_both	0.006434978580511452	-0.01203858633698257	0.02353565003151138	68
fa2ae1cce2f3-ef92566a724284b4	3	recent_best	ranking	ndcg_at_3_loss	all	0.02275604748438481	-0.04860929438958556	0.12115080354427515	17
fa2ae1cce2f3-ef92566a724284b4	3	recent_best	ranking	ndcg_at_3_loss	warm_both	-0.019160849773920574	-0.07003708903600189	0.033688528664252114	16
\.


--
-- Data for Name: forgotten_users; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.forgotten_users (user_id, forgotten_at) FROM stdin;
\.


--
-- Data for Name: gate_decisions; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.gate_decisions (decision_id, model_version, champion_version, stage, approved, reasons, decided_by, decided_at) FROM stdin;
1	1	\N	evaluated	t	[{"rule": "enough_test_ratings", "text": "67 test ratings, 5 needed", "limit": 5.0, "value": 67.0, "passed": true}, {"rule": "enough_test_users", "text": "16 users with a relevant test rating, 2 needed", "limit": 2.0, "value": 16.0, "passed": true}, {"rule": "figures_complete", "text": "all figures are there and finite", "limit": 0.0, "value": 0.0, "passed": true}, {"rule": "rmse_ceiling", "text": "test RMSE 0.8703 is within the limit 3.0000", "limit": 3.0, "value": 0.8703165189312344, "passed": true}, {"rule": "better_than_biases", "text": "switched off; test RMSE 0.8703, biases only 1.0280", "limit": 1.0279536488413124, "value": 0.8703165189312344, "passed": true}, {"rule": "not_below_popularity", "text": "switched off; NDCG@3 of the lists (ordered by the ranking head) 0.1730 is below the popularity list's 0.2962", "limit": 0.29615181928467543, "value": 0.17296920905781402, "passed": true}]	gate	2026-11-26 10:48:52.175893+00
2	1	\N	refit	t	[{"rule": "refit_error", "text": "RMSE of the refit on all ratings 0.5921, at most 0.7925 allowed (evaluated model 0.7548)", "limit": 0.7925121101117159, "value": 0.5921270171570014, "passed": true}, {"rule": "refit_overlap", "text": "the refit's lists share 63% of their items with the evaluated ones, 0% needed", "limit": 0.0, "value": 0.6307692307692307, "passed": true}]	gate	2026-11-26 10:48:58.914587+00
3	2	1	evaluated	t	[{"rule": "enough_test_ratings", "text": "75 test ratings, 5 needed", "limit": 5.0, "value": 75.0, "passed": true}, {"rule": "enough_test_users", "text": "17 users with a relevant test rating, 2 needed", "limit": 2.0, "value": 17.0, "passed": true}, {"rule": "figures_complete", "text": "all figures are there and finite", "limit": 0.0, "value": 0.0, "passed": true}, {"rule": "rmse_ceiling", "text": "test RMSE 0.8867 is within the limit 3.0000", "limit": 3.0, "value": 0.8867121376532204, "passed": true}, {"rule": "better_than_biases", "text": "switched off; test RMSE 0.8867, biases only 1.0284", "limit": 1.0283512313595298, "value": 0.8867121376532204, "passed": true}, {"rule": "not_below_popularity", "text": "switched off; NDCG@3 of the lists (ordered by the ranking head) 0.1808 is below the popularity list's 0.3185", "limit": 0.3184748794921223, "value": 0.18082829066516196, "passed": true}, {"rule": "rmse_against_champion_all", "text": "loss in test RMSE against the champion (version 1) on all common rows +0.0235 (n=75); its upper 95% bound +0.0599 is within the margin 2.0000", "limit": 2.0, "value": 0.059946071213445994, "passed": true}, {"rule": "rmse_against_champion_warm_both", "text": "loss in test RMSE against the champion (version 1) on rows warm for both +0.0064 (n=68); its upper 95% bound +0.0235 is within the margin 2.0000", "limit": 2.0, "value": 0.02353565003151138, "passed": true}, {"rule": "ndcg_against_champion_all", "text": "loss in NDCG@3 against the champion (version 1) on all common rows +0.0228 (n=17); its upper 95% bound +0.1212 is within the margin 1.0000", "limit": 1.0, "value": 0.12115080354427515, "passed": true}, {"rule": "ndcg_against_champion_warm_both", "text": "loss in NDCG@3 against the champion (version 1) on rows warm for both -0.0192 (n=16); its upper 95% bound +0.0337 is within the margin 1.0000", "limit": 1.0, "value": 0.033688528664252114, "passed": true}, {"rule": "rmse_against_recent_best_all", "text": "loss in test RMSE against the best of the last 30 days on all common rows +0.0235 (n=75); its upper 95% bound +0.0599 is within the margin 2.0000", "limit": 2.0, "value": 0.059946071213445994, "passed": true}, {"rule": "rmse_against_recent_best_warm_both", "text": "loss in test RMSE against the best of the last 30 days on rows warm for both +0.0064 (n=68); its upper 95% bound +0.0235 is within the margin 2.0000", "limit": 2.0, "value": 0.02353565003151138, "passed": true}, {"rule": "ndcg_against_recent_best_all", "text": "loss in NDCG@3 against the best of the last 30 days on all common rows +0.0228 (n=17); its upper 95% bound +0.1212 is within the margin 1.0000", "limit": 1.0, "value": 0.12115080354427515, "passed": true}, {"rule": "ndcg_against_recent_best_warm_both", "text": "loss in NDCG@3 against the best of the last 30 days on rows warm for both -0.0192 (n=16); its upper 95% bound +0.0337 is within the margin 1.0000", "limit": 1.0, "value": 0.033688528664252114, "passed": true}]	gate	2026-11-26 10:49:09.920907+00
4	2	1	refit	t	[{"rule": "refit_error", "text": "RMSE of the refit on all ratings 0.5724, at most 0.8062 allowed (evaluated model 0.7678)", "limit": 0.8061845325077591, "value": 0.5723564336834128, "passed": true}, {"rule": "refit_overlap", "text": "the refit's lists share 75% of their items with the evaluated ones, 0% needed", "limit": 0.0, "value": 0.7464788732394366, "passed": true}]	gate	2026-11-26 10:49:23.712583+00
5	3	2	evaluated	f	[{"rule": "enough_test_ratings", "text": "75 test ratings, 5 needed", "limit": 5.0, "value": 75.0, "passed": true}, {"rule": "enough_test_users", "text": "17 users with a relevant test rating, 2 needed", "limit": 2.0, "value": 17.0, "passed": true}, {"rule": "figures_complete", "text": "all figures are there and finite", "limit": 0.0, "value": 0.0, "passed": true}, {"rule": "rmse_ceiling", "text": "test RMSE 0.8867 exceeds the limit 0.0010", "limit": 0.001, "value": 0.8867121376532204, "passed": false}, {"rule": "better_than_biases", "text": "switched off; test RMSE 0.8867, biases only 1.0284", "limit": 1.0283512313595298, "value": 0.8867121376532204, "passed": true}, {"rule": "not_below_popularity", "text": "switched off; NDCG@3 of the lists (ordered by the ranking head) 0.1808 is below the popularity list's 0.3185", "limit": 0.3184748794921223, "value": 0.18082829066516196, "passed": true}, {"rule": "rmse_against_champion_all", "text": "loss in test RMSE against the champion (version 2) on all common rows +0.0000 (n=75); its upper 95% bound +0.0000 is within the margin 2.0000", "limit": 2.0, "value": 0.0, "passed": true}, {"rule": "rmse_against_champion_warm_both", "text": "loss in test RMSE against the champion (version 2) on rows warm for both +0.0000 (n=75); its upper 95% bound +0.0000 is within the margin 2.0000", "limit": 2.0, "value": 0.0, "passed": true}, {"rule": "ndcg_against_champion_all", "text": "loss in NDCG@3 against the champion (version 2) on all common rows +0.0000 (n=17); its upper 95% bound +0.0000 is within the margin 1.0000", "limit": 1.0, "value": 0.0, "passed": true}, {"rule": "ndcg_against_champion_warm_both", "text": "loss in NDCG@3 against the champion (version 2) on rows warm for both +0.0000 (n=17); its upper 95% bound +0.0000 is within the margin 1.0000", "limit": 1.0, "value": 0.0, "passed": true}, {"rule": "rmse_against_recent_best_all", "text": "loss in test RMSE against the best of the last 30 days on all common rows +0.0235 (n=75); its upper 95% bound +0.0599 is within the margin 2.0000", "limit": 2.0, "value": 0.059946071213445994, "passed": true}, {"rule": "rmse_against_recent_best_warm_both", "text": "loss in test RMSE against the best of the last 30 days on rows warm for both +0.0064 (n=68); its upper 95% bound +0.0235 is within the margin 2.0000", "limit": 2.0, "value": 0.02353565003151138, "passed": true}, {"rule": "ndcg_against_recent_best_all", "text": "loss in NDCG@3 against the best of the last 30 days on all common rows +0.0228 (n=17); its upper 95% bound +0.1212 is within the margin 1.0000", "limit": 1.0, "value": 0.12115080354427515, "passed": true}, {"rule": "ndcg_against_recent_best_warm_both", "text": "loss in NDCG@3 against the best of the last 30 days on rows warm for both -0.0192 (n=16); its upper 95% bound +0.0337 is within the margin 1.0000", "limit": 1.0, "value": 0.033688528664252114, "passed": true}]	gate	2026-11-26 10:49:41.44056+00
6	3	2	override	t	[{"rule": "override", "text": "a test of the override", "limit": null, "value": null, "passed": true}]	Ada	2026-11-26 10:49:44.501303+00
\.


--
-- Data for Name: hidden_items; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.hidden_items (item_id, reason, hidden_by, hidden_at) FROM stdin;
i03	recalled	root	2026-11-26 10:49:47.70819+00
\.


--
-- Data for Name: ingest_batches; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.ingest_batches (batch_id, source_uri, content_sha256, fingerprint, mode, state, started_at, finished_at, rows_read, rows_rejected, rows_duplicate, rows_inserted, rows_updated, rows_unchanged, rows_removed, total_ratings) FROM stdin;
1	/srv/mf/one.csv	e24e3cd93956e4a831f11200dffa0bc5ba5c95173a51ac304fa8842a169d9ed2	c9966c05deb102219f3ace618f496761cd796a765d3b3b5db2ca1d197e9e29db	merge	loaded	2026-11-26 10:48:42.940561+00	2026-11-26 10:48:43.007224+00	233	0	0	233	0	0	0	233
2	/srv/mf/two.csv	e59b6fe406df47e417e1e7c20996e0df448394cd0a4d2144eb2a9946162236bd	bfa1deeb1aee093a535098a2c25c7505f05172206333a621469a004d6a85163c	merge	loaded	2026-11-26 10:49:00.348283+00	2026-11-26 10:49:00.421653+00	253	2	0	20	0	231	0	253
\.


--
-- Data for Name: items; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.items (item_id, title, attributes) FROM stdin;
\.


--
-- Data for Name: live; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.live ("only", model_version) FROM stdin;
t	2
\.


--
-- Data for Name: model_artifacts; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.model_artifacts (model_version, head, stage, uri, sha256, split_id, iterations) FROM stdin;
1	rating	evaluated	file:///srv/mf/artifacts/models/1/evaluated/rating	f68a6108fe4e23a1869bf5ea9cfadf1e9780ec0cb368397e99e6bf62ec28e2a5	fa2ae1cce2f3	13
1	ranking	evaluated	file:///srv/mf/artifacts/models/1/evaluated/ranking	accd25244aee707fd5a501a2e4f8e015319f244e691ec435aef96b02f3540725	fa2ae1cce2f3	12
1	rating	refit	file:///srv/mf/artifacts/models/1/refit/rating	4de4d7d144629b40a2057c1fb74f95ba71305da3ba00543a5edece2cc13d54f4	fa2ae1cce2f3	13
1	ranking	refit	file:///srv/mf/artifacts/models/1/refit/ranking	d1372e1c937949565442ca78ea2923e5f97ec9d7d454e43cb2d6d155df77d34c	fa2ae1cce2f3	12
2	rating	evaluated	file:///srv/mf/artifacts/models/2/evaluated/rating	69083b910a38712d9c3925e7d7e0a8d9aeac010383a966041e6e5525eba5f5c1	fa2ae1cce2f3	13
2	ranking	evaluated	file:///srv/mf/artifacts/models/2/evaluated/ranking	8890e287f2536e5d68e4d6a717d93c317f640b5d19821daf6cb44457e77df162	fa2ae1cce2f3	12
2	rating	refit	file:///srv/mf/artifacts/models/2/refit/rating	67265ea88f5cde1425bc1430ee8e3e2955222b6986558214671e1e51b745b1b5	fa2ae1cce2f3	13
2	ranking	refit	file:///srv/mf/artifacts/models/2/refit/ranking	d7cdad4500e52541cdff73507eeb00d25c7736ea549f749095b9defbbe902608	fa2ae1cce2f3	12
3	rating	evaluated	file:///srv/mf/artifacts/models/3/evaluated/rating	9b6a193f2b66782fe59d9384a58875ff86e6fc254cbae9b838accabc5f922e67	fa2ae1cce2f3	13
3	ranking	evaluated	file:///srv/mf/artifacts/models/3/evaluated/ranking	ee60a96379a10b07ad6ade2b113958cfa1d917830bf1712d1341da84b9ddf63d	fa2ae1cce2f3	12
\.


--
-- Data for Name: models; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.models (model_version, run_key, state, snapshot_id, split_id, champion_version, training_fingerprint, config, code_version, device, fit_seconds, top_n, created_at, published_at, retired_at, warm_started_from, stopped_in) FROM stdin;
1	one	published	fa2ae1cce2f3-3a4c400911306737	fa2ae1cce2f3	\N	3e909c29e9846a7028d6e4722fb42999d9d6309ae9c361a15deed42a3de0066c	{"run": {"force": false, "dry_run": false}, "data": {"min_items": 5, "min_users": 5, "scale_low": 1.0, "scale_high": 5.0, "ingest_mode": "merge", "min_ratings": 50, "relevant_from": 4.0, "max_volume_drop": 0.2, "max_removed_share": 0.5, "max_volume_growth": 5.0, "max_rejected_share": 0.1}, "gate": {"cutoff": 3, "max_rmse": 3.0, "recent_days": 30, "max_ndcg_loss": 1.0, "max_rmse_loss": 2.0, "min_test_users": 2, "min_test_ratings": 5, "bootstrap_samples": 100, "min_refit_overlap": 0.0, "require_popularity": false, "max_refit_error_ratio": 1.05, "require_better_than_biases": false}, "split": {"seed": 0, "protocol": "hash", "test_fraction": 0.3}, "train": {"seed": 0, "device": "auto", "warm_start": false, "checkpoint_seconds": 30.0, "full_restart_every": 7}, "source": {"uri": "/srv/mf/one.csv", "query": "", "layout": "auto", "sha256": "", "test_uri": "", "delimiter": "", "items_uri": "", "users_uri": "", "chunk_rows": 500000, "item_column": "item_id", "side_column": "", "time_column": "timestamp", "user_column": "user_id", "rating_column": "rating", "database_url_env": "MF_SOURCE_DATABASE_URL"}, "publish": {"refit": true, "min_coverage": 0.0, "keep_versions": 5}, "recommend": {"top_n": 3, "shards": 1, "rank_by": "ranking", "reserve": 2, "tile_mib": 64, "similar_items": 2}, "rating_head": {"als": {"n_factors": 3, "iterations": 20, "regularization": 0.09, "conjugate_steps": 2, "bias_regularization": 2.0}, "bayes": {"sweeps": 120, "burn_in": 10, "patience": 50, "n_factors": 26, "kept_samples": 16, "pattern_rank": 36, "output_factors": 128, "side_information": false}, "solver": "als", "gradient": {"epochs": 100, "preset": "biased", "n_factors": 32, "batch_size": 2048, "learning_rate": 0.003, "regularization": 0.15}, "patience": 5, "validation_fraction": 0.05}, "ranking_head": {"n_factors": 3, "iterations": 12, "learn_from": "all", "lowest_target": 0.35, "regularization": 0.016, "conjugate_steps": 3, "unobserved_weight": 0.2, "regularization_exponent": 1.0}}	0.2.0+53ca15462667	CPU	1.3716378759997951	3	2026-11-26 10:48:43.049438+00	2026-11-26 10:48:58.976865+00	\N	\N	\N
2	two	published	fa2ae1cce2f3-ef92566a724284b4	fa2ae1cce2f3	1	3e909c29e9846a7028d6e4722fb42999d9d6309ae9c361a15deed42a3de0066c	{"run": {"force": false, "dry_run": false}, "data": {"min_items": 5, "min_users": 5, "scale_low": 1.0, "scale_high": 5.0, "ingest_mode": "merge", "min_ratings": 50, "relevant_from": 4.0, "max_volume_drop": 0.2, "max_removed_share": 0.5, "max_volume_growth": 5.0, "max_rejected_share": 0.1}, "gate": {"cutoff": 3, "max_rmse": 3.0, "recent_days": 30, "max_ndcg_loss": 1.0, "max_rmse_loss": 2.0, "min_test_users": 2, "min_test_ratings": 5, "bootstrap_samples": 100, "min_refit_overlap": 0.0, "require_popularity": false, "max_refit_error_ratio": 1.05, "require_better_than_biases": false}, "split": {"seed": 0, "protocol": "hash", "test_fraction": 0.3}, "train": {"seed": 0, "device": "auto", "warm_start": false, "checkpoint_seconds": 30.0, "full_restart_every": 7}, "source": {"uri": "/srv/mf/two.csv", "query": "", "layout": "auto", "sha256": "", "test_uri": "", "delimiter": "", "items_uri": "", "users_uri": "", "chunk_rows": 500000, "item_column": "item_id", "side_column": "", "time_column": "timestamp", "user_column": "user_id", "rating_column": "rating", "database_url_env": "MF_SOURCE_DATABASE_URL"}, "publish": {"refit": true, "min_coverage": 0.0, "keep_versions": 5}, "recommend": {"top_n": 3, "shards": 1, "rank_by": "ranking", "reserve": 2, "tile_mib": 64, "similar_items": 2}, "rating_head": {"als": {"n_factors": 3, "iterations": 20, "regularization": 0.09, "conjugate_steps": 2, "bias_regularization": 2.0}, "bayes": {"sweeps": 120, "burn_in": 10, "patience": 50, "n_factors": 26, "kept_samples": 16, "pattern_rank": 36, "output_factors": 128, "side_information": false}, "solver": "als", "gradient": {"epochs": 100, "preset": "biased", "n_factors": 32, "batch_size": 2048, "learning_rate": 0.003, "regularization": 0.15}, "patience": 5, "validation_fraction": 0.05}, "ranking_head": {"n_factors": 3, "iterations": 12, "learn_from": "all", "lowest_target": 0.35, "regularization": 0.016, "conjugate_steps": 3, "unobserved_weight": 0.2, "regularization_exponent": 1.0}}	0.2.0+53ca15462667	CPU	1.7779835930000445	3	2026-11-26 10:49:00.435976+00	2026-11-26 10:49:23.925594+00	\N	\N	\N
3	three	approved	fa2ae1cce2f3-ef92566a724284b4	fa2ae1cce2f3	2	3e909c29e9846a7028d6e4722fb42999d9d6309ae9c361a15deed42a3de0066c	{"run": {"force": true, "dry_run": false}, "data": {"min_items": 5, "min_users": 5, "scale_low": 1.0, "scale_high": 5.0, "ingest_mode": "merge", "min_ratings": 50, "relevant_from": 4.0, "max_volume_drop": 0.2, "max_removed_share": 0.5, "max_volume_growth": 5.0, "max_rejected_share": 0.1}, "gate": {"cutoff": 3, "max_rmse": 0.001, "recent_days": 30, "max_ndcg_loss": 1.0, "max_rmse_loss": 2.0, "min_test_users": 2, "min_test_ratings": 5, "bootstrap_samples": 100, "min_refit_overlap": 0.0, "require_popularity": false, "max_refit_error_ratio": 1.05, "require_better_than_biases": false}, "split": {"seed": 0, "protocol": "hash", "test_fraction": 0.3}, "train": {"seed": 0, "device": "auto", "warm_start": false, "checkpoint_seconds": 30.0, "full_restart_every": 7}, "source": {"uri": "/srv/mf/two.csv", "query": "", "layout": "auto", "sha256": "", "test_uri": "", "delimiter": "", "items_uri": "", "users_uri": "", "chunk_rows": 500000, "item_column": "item_id", "side_column": "", "time_column": "timestamp", "user_column": "user_id", "rating_column": "rating", "database_url_env": "MF_SOURCE_DATABASE_URL"}, "publish": {"refit": true, "min_coverage": 0.0, "keep_versions": 5}, "recommend": {"top_n": 3, "shards": 1, "rank_by": "ranking", "reserve": 2, "tile_mib": 64, "similar_items": 2}, "rating_head": {"als": {"n_factors": 3, "iterations": 20, "regularization": 0.09, "conjugate_steps": 2, "bias_regularization": 2.0}, "bayes": {"sweeps": 120, "burn_in": 10, "patience": 50, "n_factors": 26, "kept_samples": 16, "pattern_rank": 36, "output_factors": 128, "side_information": false}, "solver": "als", "gradient": {"epochs": 100, "preset": "biased", "n_factors": 32, "batch_size": 2048, "learning_rate": 0.003, "regularization": 0.15}, "patience": 5, "validation_fraction": 0.05}, "ranking_head": {"n_factors": 3, "iterations": 12, "learn_from": "all", "lowest_target": 0.35, "regularization": 0.016, "conjugate_steps": 3, "unobserved_weight": 0.2, "regularization_exponent": 1.0}}	0.2.0+53ca15462667	CPU	2.982382608999842	3	2026-11-26 10:49:28.456253+00	\N	\N	\N	\N
\.


--
-- Data for Name: popular_items; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.popular_items (model_version, rank, item_id, score, predicted_rating) FROM stdin;
1	1	i09	13	4.461950778961182
1	2	i04	12	4.191622257232666
1	3	i14	12	3.8513121604919434
1	4	i08	10	4.035001277923584
1	5	i06	9	3.5336456298828125
2	1	i09	15	4.417457103729248
2	2	i04	12	4.11709451675415
2	3	i14	12	3.828057289123535
2	4	i08	11	4.001014232635498
2	5	i13	11	3.697864055633545
\.


--
-- Data for Name: promotions; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.promotions (promotion_id, model_version, previous_version, action, promoted_at, promoted_by, how, overridden_by, reason) FROM stdin;
1	1	\N	publish	2026-11-26 10:48:58.98003+00	root	gate	\N	\N
2	2	1	publish	2026-11-26 10:49:23.937853+00	root	gate	\N	\N
\.


--
-- Data for Name: ratings; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.ratings (user_id, item_id, rating, rated_at, side, batch_id) FROM stdin;
u00	i01	3	2020-01-01 00:00:00+00	\N	1
u00	i02	4	2020-01-02 00:00:00+00	\N	1
u00	i03	3	2020-01-03 00:00:00+00	\N	1
u00	i06	5	2020-01-04 00:00:00+00	\N	1
u00	i07	3	2020-01-05 00:00:00+00	\N	1
u00	i08	5	2020-01-06 00:00:00+00	\N	1
u00	i09	5	2020-01-07 00:00:00+00	\N	1
u00	i10	3	2020-01-08 00:00:00+00	\N	1
u00	i11	3	2020-01-09 00:00:00+00	\N	1
u00	i13	3	2020-01-10 00:00:00+00	\N	1
u00	i14	5	2020-01-11 00:00:00+00	\N	1
u00	i15	3	2020-01-12 00:00:00+00	\N	1
u01	i00	2	2020-01-13 00:00:00+00	\N	1
u01	i01	2	2020-01-14 00:00:00+00	\N	1
u01	i02	3	2020-01-15 00:00:00+00	\N	1
u01	i05	3	2020-01-16 00:00:00+00	\N	1
u01	i06	4	2020-01-17 00:00:00+00	\N	1
u01	i09	5	2020-01-18 00:00:00+00	\N	1
u01	i11	3	2020-01-19 00:00:00+00	\N	1
u01	i12	3	2020-01-20 00:00:00+00	\N	1
u01	i14	4	2020-01-21 00:00:00+00	\N	1
u02	i01	2	2020-01-22 00:00:00+00	\N	1
u02	i02	3	2020-01-23 00:00:00+00	\N	1
u02	i03	4	2020-01-24 00:00:00+00	\N	1
u02	i04	3	2020-01-25 00:00:00+00	\N	1
u02	i05	2	2020-01-26 00:00:00+00	\N	1
u02	i06	3	2020-01-27 00:00:00+00	\N	1
u02	i07	2	2020-01-28 00:00:00+00	\N	1
u02	i10	5	2020-01-01 00:00:00+00	\N	1
u02	i11	3	2020-01-02 00:00:00+00	\N	1
u02	i12	2	2020-01-03 00:00:00+00	\N	1
u03	i00	3	2020-01-04 00:00:00+00	\N	1
u03	i02	3	2020-01-05 00:00:00+00	\N	1
u03	i04	4	2020-01-06 00:00:00+00	\N	1
u03	i06	4	2020-01-07 00:00:00+00	\N	1
u03	i08	4	2020-01-08 00:00:00+00	\N	1
u03	i09	5	2020-01-09 00:00:00+00	\N	1
u03	i10	3	2020-01-10 00:00:00+00	\N	1
u03	i11	3	2020-01-11 00:00:00+00	\N	1
u03	i12	3	2020-01-12 00:00:00+00	\N	1
u03	i13	3	2020-01-13 00:00:00+00	\N	1
u03	i14	4	2020-01-14 00:00:00+00	\N	1
u04	i00	3	2020-01-15 00:00:00+00	\N	1
u04	i01	3	2020-01-16 00:00:00+00	\N	1
u04	i02	3	2020-01-17 00:00:00+00	\N	1
u04	i03	4	2020-01-18 00:00:00+00	\N	1
u04	i05	3	2020-01-19 00:00:00+00	\N	1
u04	i06	1	2020-01-20 00:00:00+00	\N	1
u04	i07	3	2020-01-21 00:00:00+00	\N	1
u04	i09	4	2020-01-22 00:00:00+00	\N	1
u04	i10	3	2020-01-23 00:00:00+00	\N	1
u04	i12	2	2020-01-24 00:00:00+00	\N	1
u05	i00	1	2020-01-25 00:00:00+00	\N	1
u05	i01	2	2020-01-26 00:00:00+00	\N	1
u05	i02	2	2020-01-27 00:00:00+00	\N	1
u05	i03	4	2020-01-28 00:00:00+00	\N	1
u05	i04	4	2020-01-01 00:00:00+00	\N	1
u05	i05	2	2020-01-02 00:00:00+00	\N	1
u05	i07	1	2020-01-03 00:00:00+00	\N	1
u05	i09	4	2020-01-04 00:00:00+00	\N	1
u05	i10	5	2020-01-05 00:00:00+00	\N	1
u05	i11	5	2020-01-06 00:00:00+00	\N	1
u05	i13	4	2020-01-07 00:00:00+00	\N	1
u05	i14	5	2020-01-08 00:00:00+00	\N	1
u05	i15	5	2020-01-09 00:00:00+00	\N	1
u06	i00	2	2020-01-10 00:00:00+00	\N	1
u06	i01	2	2020-01-11 00:00:00+00	\N	1
u06	i03	4	2020-01-12 00:00:00+00	\N	1
u06	i05	3	2020-01-13 00:00:00+00	\N	1
u06	i06	4	2020-01-14 00:00:00+00	\N	1
u06	i07	2	2020-01-15 00:00:00+00	\N	1
u06	i08	5	2020-01-16 00:00:00+00	\N	1
u06	i10	5	2020-01-17 00:00:00+00	\N	1
u06	i11	4	2020-01-18 00:00:00+00	\N	1
u06	i12	3	2020-01-19 00:00:00+00	\N	1
u06	i13	4	2020-01-20 00:00:00+00	\N	1
u06	i14	4	2020-01-21 00:00:00+00	\N	1
u06	i15	4	2020-01-22 00:00:00+00	\N	1
u07	i03	4	2020-01-23 00:00:00+00	\N	1
u07	i06	4	2020-01-24 00:00:00+00	\N	1
u07	i08	5	2020-01-25 00:00:00+00	\N	1
u07	i10	5	2020-01-26 00:00:00+00	\N	1
u07	i12	3	2020-01-27 00:00:00+00	\N	1
u07	i13	4	2020-01-28 00:00:00+00	\N	1
u08	i00	3	2020-01-01 00:00:00+00	\N	1
u08	i01	3	2020-01-02 00:00:00+00	\N	1
u08	i03	3	2020-01-03 00:00:00+00	\N	1
u08	i05	4	2020-01-04 00:00:00+00	\N	1
u08	i06	3	2020-01-05 00:00:00+00	\N	1
u08	i07	3	2020-01-06 00:00:00+00	\N	1
u08	i08	4	2020-01-07 00:00:00+00	\N	1
u08	i09	5	2020-01-08 00:00:00+00	\N	1
u08	i10	3	2020-01-09 00:00:00+00	\N	1
u08	i11	3	2020-01-10 00:00:00+00	\N	1
u08	i12	3	2020-01-11 00:00:00+00	\N	1
u08	i13	4	2020-01-12 00:00:00+00	\N	1
u08	i14	4	2020-01-13 00:00:00+00	\N	1
u08	i15	2	2020-01-14 00:00:00+00	\N	1
u09	i01	2	2020-01-15 00:00:00+00	\N	1
u09	i02	3	2020-01-16 00:00:00+00	\N	1
u09	i04	4	2020-01-17 00:00:00+00	\N	1
u09	i05	3	2020-01-18 00:00:00+00	\N	1
u09	i07	2	2020-01-19 00:00:00+00	\N	1
u09	i08	5	2020-01-20 00:00:00+00	\N	1
u09	i11	4	2020-01-21 00:00:00+00	\N	1
u09	i12	3	2020-01-22 00:00:00+00	\N	1
u09	i13	4	2020-01-23 00:00:00+00	\N	1
u10	i00	2	2020-01-24 00:00:00+00	\N	1
u10	i01	2	2020-01-25 00:00:00+00	\N	1
u10	i02	3	2020-01-26 00:00:00+00	\N	1
u10	i03	3	2020-01-27 00:00:00+00	\N	1
u10	i06	5	2020-01-28 00:00:00+00	\N	1
u10	i07	2	2020-01-01 00:00:00+00	\N	1
u10	i08	5	2020-01-02 00:00:00+00	\N	1
u10	i09	5	2020-01-03 00:00:00+00	\N	1
u10	i12	3	2020-01-04 00:00:00+00	\N	1
u10	i13	3	2020-01-05 00:00:00+00	\N	1
u10	i14	5	2020-01-06 00:00:00+00	\N	1
u10	i15	5	2020-01-07 00:00:00+00	\N	1
u11	i01	3	2020-01-08 00:00:00+00	\N	1
u11	i02	4	2020-01-09 00:00:00+00	\N	1
u11	i04	5	2020-01-10 00:00:00+00	\N	1
u11	i06	4	2020-01-11 00:00:00+00	\N	1
u11	i07	3	2020-01-12 00:00:00+00	\N	1
u11	i09	5	2020-01-13 00:00:00+00	\N	1
u11	i11	3	2020-01-14 00:00:00+00	\N	1
u11	i13	3	2020-01-15 00:00:00+00	\N	1
u11	i14	5	2020-01-16 00:00:00+00	\N	1
u12	i00	4	2020-01-17 00:00:00+00	\N	1
u12	i01	3	2020-01-18 00:00:00+00	\N	1
u12	i02	4	2020-01-19 00:00:00+00	\N	1
u12	i03	4	2020-01-20 00:00:00+00	\N	1
u12	i05	3	2020-01-21 00:00:00+00	\N	1
u12	i07	4	2020-01-22 00:00:00+00	\N	1
u12	i11	1	2020-01-23 00:00:00+00	\N	1
u12	i13	5	2020-01-24 00:00:00+00	\N	1
u12	i14	2	2020-01-25 00:00:00+00	\N	1
u12	i15	1	2020-01-26 00:00:00+00	\N	1
u13	i00	1	2020-01-27 00:00:00+00	\N	1
u13	i01	2	2020-01-28 00:00:00+00	\N	1
u13	i02	2	2020-01-01 00:00:00+00	\N	1
u13	i04	4	2020-01-02 00:00:00+00	\N	1
u13	i06	5	2020-01-03 00:00:00+00	\N	1
u13	i07	1	2020-01-04 00:00:00+00	\N	1
u13	i08	5	2020-01-05 00:00:00+00	\N	1
u13	i11	5	2020-01-06 00:00:00+00	\N	1
u13	i13	5	2020-01-07 00:00:00+00	\N	1
u13	i14	4	2020-01-08 00:00:00+00	\N	1
u13	i15	5	2020-01-09 00:00:00+00	\N	1
u14	i00	1	2020-01-10 00:00:00+00	\N	1
u14	i02	2	2020-01-11 00:00:00+00	\N	1
u14	i03	4	2020-01-12 00:00:00+00	\N	1
u14	i04	4	2020-01-13 00:00:00+00	\N	1
u14	i05	2	2020-01-14 00:00:00+00	\N	1
u14	i08	5	2020-01-15 00:00:00+00	\N	1
u14	i09	4	2020-01-16 00:00:00+00	\N	1
u14	i12	3	2020-01-17 00:00:00+00	\N	1
u14	i14	4	2020-01-18 00:00:00+00	\N	1
u14	i15	4	2020-01-19 00:00:00+00	\N	1
u15	i00	4	2020-01-20 00:00:00+00	\N	1
u15	i01	3	2020-01-21 00:00:00+00	\N	1
u15	i02	4	2020-01-22 00:00:00+00	\N	1
u15	i03	3	2020-01-23 00:00:00+00	\N	1
u15	i04	5	2020-01-24 00:00:00+00	\N	1
u15	i06	5	2020-01-25 00:00:00+00	\N	1
u15	i07	4	2020-01-26 00:00:00+00	\N	1
u15	i12	4	2020-01-27 00:00:00+00	\N	1
u15	i13	2	2020-01-28 00:00:00+00	\N	1
u15	i14	5	2020-01-01 00:00:00+00	\N	1
u15	i15	3	2020-01-02 00:00:00+00	\N	1
u16	i01	2	2020-01-03 00:00:00+00	\N	1
u16	i02	3	2020-01-04 00:00:00+00	\N	1
u16	i04	4	2020-01-05 00:00:00+00	\N	1
u16	i05	3	2020-01-06 00:00:00+00	\N	1
u16	i07	3	2020-01-07 00:00:00+00	\N	1
u16	i08	4	2020-01-08 00:00:00+00	\N	1
u16	i09	4	2020-01-09 00:00:00+00	\N	1
u16	i10	4	2020-01-10 00:00:00+00	\N	1
u16	i11	3	2020-01-11 00:00:00+00	\N	1
u16	i12	3	2020-01-12 00:00:00+00	\N	1
u16	i13	4	2020-01-13 00:00:00+00	\N	1
u16	i14	4	2020-01-14 00:00:00+00	\N	1
u16	i15	3	2020-01-15 00:00:00+00	\N	1
u17	i03	3	2020-01-16 00:00:00+00	\N	1
u17	i04	5	2020-01-17 00:00:00+00	\N	1
u17	i05	5	2020-01-18 00:00:00+00	\N	1
u17	i06	3	2020-01-19 00:00:00+00	\N	1
u17	i07	4	2020-01-20 00:00:00+00	\N	1
u17	i11	2	2020-01-21 00:00:00+00	\N	1
u17	i12	3	2020-01-22 00:00:00+00	\N	1
u17	i15	1	2020-01-23 00:00:00+00	\N	1
u18	i00	4	2020-01-24 00:00:00+00	\N	1
u18	i04	5	2020-01-25 00:00:00+00	\N	1
u18	i05	5	2020-01-26 00:00:00+00	\N	1
u18	i06	3	2020-01-27 00:00:00+00	\N	1
u18	i07	4	2020-01-28 00:00:00+00	\N	1
u18	i09	5	2020-01-01 00:00:00+00	\N	1
u18	i10	2	2020-01-02 00:00:00+00	\N	1
u18	i11	2	2020-01-03 00:00:00+00	\N	1
u18	i13	3	2020-01-04 00:00:00+00	\N	1
u18	i15	1	2020-01-05 00:00:00+00	\N	1
u19	i00	3	2020-01-06 00:00:00+00	\N	1
u19	i01	2	2020-01-07 00:00:00+00	\N	1
u19	i02	3	2020-01-08 00:00:00+00	\N	1
u19	i03	3	2020-01-09 00:00:00+00	\N	1
u19	i04	5	2020-01-10 00:00:00+00	\N	1
u19	i07	3	2020-01-11 00:00:00+00	\N	1
u19	i09	5	2020-01-12 00:00:00+00	\N	1
u19	i10	3	2020-01-13 00:00:00+00	\N	1
u19	i11	3	2020-01-14 00:00:00+00	\N	1
u19	i12	3	2020-01-15 00:00:00+00	\N	1
u19	i13	3	2020-01-16 00:00:00+00	\N	1
u20	i00	5	2020-01-17 00:00:00+00	\N	1
u20	i01	3	2020-01-18 00:00:00+00	\N	1
u20	i02	4	2020-01-19 00:00:00+00	\N	1
u20	i03	3	2020-01-20 00:00:00+00	\N	1
u20	i07	4	2020-01-21 00:00:00+00	\N	1
u20	i09	4	2020-01-22 00:00:00+00	\N	1
u20	i10	2	2020-01-23 00:00:00+00	\N	1
u20	i11	1	2020-01-24 00:00:00+00	\N	1
u20	i12	2	2020-01-25 00:00:00+00	\N	1
u20	i14	2	2020-01-26 00:00:00+00	\N	1
u21	i00	5	2020-01-27 00:00:00+00	\N	1
u21	i01	3	2020-01-28 00:00:00+00	\N	1
u21	i03	3	2020-01-01 00:00:00+00	\N	1
u21	i04	4	2020-01-02 00:00:00+00	\N	1
u21	i05	5	2020-01-03 00:00:00+00	\N	1
u21	i06	1	2020-01-04 00:00:00+00	\N	1
u21	i07	5	2020-01-05 00:00:00+00	\N	1
u21	i08	1	2020-01-06 00:00:00+00	\N	1
u21	i10	1	2020-01-07 00:00:00+00	\N	1
u21	i11	1	2020-01-08 00:00:00+00	\N	1
u21	i12	2	2020-01-09 00:00:00+00	\N	1
u21	i13	5	2020-01-10 00:00:00+00	\N	2
u21	i15	1	2020-01-11 00:00:00+00	\N	2
u22	i03	4	2020-01-12 00:00:00+00	\N	2
u22	i04	3	2020-01-13 00:00:00+00	\N	2
u22	i05	3	2020-01-14 00:00:00+00	\N	2
u22	i06	1	2020-01-15 00:00:00+00	\N	2
u22	i09	4	2020-01-16 00:00:00+00	\N	2
u22	i10	3	2020-01-17 00:00:00+00	\N	2
u22	i12	2	2020-01-18 00:00:00+00	\N	2
u22	i13	5	2020-01-19 00:00:00+00	\N	2
u23	i01	2	2020-01-20 00:00:00+00	\N	2
u23	i02	3	2020-01-21 00:00:00+00	\N	2
u23	i03	4	2020-01-22 00:00:00+00	\N	2
u23	i05	3	2020-01-23 00:00:00+00	\N	2
u23	i06	4	2020-01-24 00:00:00+00	\N	2
u23	i08	4	2020-01-25 00:00:00+00	\N	2
u23	i09	4	2020-01-26 00:00:00+00	\N	2
u23	i10	4	2020-01-27 00:00:00+00	\N	2
u23	i13	4	2020-01-28 00:00:00+00	\N	2
u23	i15	3	2020-01-01 00:00:00+00	\N	2
\.


--
-- Data for Name: recommendation_rows_v1; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.recommendation_rows_v1 (model_version, user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source, generated_at) FROM stdin;
1	u00	1	i04	0.7948023368520309	4.475245296755794	\N	model	2026-11-26 10:48:58.954701+00
1	u00	2	i12	0.6276830569157239	3.189998228031278	\N	model	2026-11-26 10:48:58.954701+00
1	u00	3	i00	0.484330745615285	3.209684108570757	\N	model	2026-11-26 10:48:58.954701+00
1	u00	4	i05	0.4360635271895674	3.6443675244346965	\N	model	2026-11-26 10:48:58.954701+00
1	u01	1	i04	0.6866683100379984	4.070595972968581	\N	model	2026-11-26 10:48:58.954701+00
1	u01	2	i07	0.528926894489528	2.623272536314886	\N	model	2026-11-26 10:48:58.954701+00
1	u01	3	i15	0.4866330800420946	3.141160380161672	\N	model	2026-11-26 10:48:58.954701+00
1	u01	4	i08	0.48532041346167176	4.159187787005505	\N	model	2026-11-26 10:48:58.954701+00
1	u01	5	i13	0.4742023629376648	3.4178690787206305	\N	model	2026-11-26 10:48:58.954701+00
1	u02	1	i13	0.7038689945756982	3.2207427560665685	\N	model	2026-11-26 10:48:58.954701+00
1	u02	2	i08	0.7011846478699539	4.03773117467809	\N	model	2026-11-26 10:48:58.954701+00
1	u02	3	i15	0.4574136748752704	3.0832703563518353	\N	model	2026-11-26 10:48:58.954701+00
1	u02	4	i00	0.3869591185762038	2.186409676250688	\N	model	2026-11-26 10:48:58.954701+00
1	u02	5	i14	0.3840616601400695	3.7427201763667117	\N	model	2026-11-26 10:48:58.954701+00
1	u03	1	i15	0.6453904907979853	2.9070437113907808	\N	model	2026-11-26 10:48:58.954701+00
1	u03	2	i03	0.5971178624392786	3.460606305973971	\N	model	2026-11-26 10:48:58.954701+00
1	u03	3	i07	0.5172088904326246	2.941441401859562	\N	model	2026-11-26 10:48:58.954701+00
1	u03	4	i01	0.5119439363107869	2.5854143487704673	\N	model	2026-11-26 10:48:58.954701+00
1	u03	5	i05	0.46133467587049104	3.3720175953701963	\N	model	2026-11-26 10:48:58.954701+00
1	u04	1	i04	0.7334252614441941	3.8773112194090142	\N	model	2026-11-26 10:48:58.954701+00
1	u04	2	i13	0.482140527301957	3.011642326041153	\N	model	2026-11-26 10:48:58.954701+00
1	u04	3	i14	0.4076500502319198	3.306624629088566	\N	model	2026-11-26 10:48:58.954701+00
1	u04	4	i11	0.3647204362364187	2.303778377095628	\N	model	2026-11-26 10:48:58.954701+00
1	u04	5	i08	0.2898176713405718	3.4142089645054345	\N	model	2026-11-26 10:48:58.954701+00
1	u05	1	i08	1.0422789342324617	4.9003164974782365	\N	model	2026-11-26 10:48:58.954701+00
1	u05	2	i06	0.9392708094034514	4.319728180185888	\N	model	2026-11-26 10:48:58.954701+00
1	u05	3	i12	0.6583756942934222	3.065492553131965	\N	model	2026-11-26 10:48:58.954701+00
1	u06	1	i04	0.7908174937449635	4.213910613532652	\N	model	2026-11-26 10:48:58.954701+00
1	u06	2	i09	0.5431475714157381	4.575313097661423	\N	model	2026-11-26 10:48:58.954701+00
1	u06	3	i02	0.5408962416399341	3.074268056853125	\N	model	2026-11-26 10:48:58.954701+00
1	u07	1	i11	0.7278603239643057	3.6319636142188028	\N	model	2026-11-26 10:48:58.954701+00
1	u07	2	i15	0.6691166354582085	3.612765086085769	\N	model	2026-11-26 10:48:58.954701+00
1	u07	3	i04	0.5398426362837186	4.578723780219228	\N	model	2026-11-26 10:48:58.954701+00
1	u07	4	i05	0.40364364748258175	3.6378904864148245	\N	model	2026-11-26 10:48:58.954701+00
1	u07	5	i14	0.36179041027038084	4.3976887336073585	\N	model	2026-11-26 10:48:58.954701+00
1	u08	1	i04	0.8666657640898637	4.270409987475712	\N	model	2026-11-26 10:48:58.954701+00
1	u08	2	i02	0.7035806629151694	3.374352502904768	\N	model	2026-11-26 10:48:58.954701+00
1	u09	1	i10	0.8253641354103327	3.9408494667819065	\N	model	2026-11-26 10:48:58.954701+00
1	u09	2	i03	0.7698345228113286	3.590929333526211	\N	model	2026-11-26 10:48:58.954701+00
1	u09	3	i06	0.6429919092653675	3.899710020435729	\N	model	2026-11-26 10:48:58.954701+00
1	u09	4	i15	0.5278672859699625	3.4922374106497416	\N	model	2026-11-26 10:48:58.954701+00
1	u09	5	i14	0.41731561023936914	4.133218990056184	\N	model	2026-11-26 10:48:58.954701+00
1	u10	1	i11	0.7472228073527987	3.7999421297584917	\N	model	2026-11-26 10:48:58.954701+00
1	u10	2	i04	0.7352490272112169	4.212660977197948	\N	model	2026-11-26 10:48:58.954701+00
1	u10	3	i10	0.6435214077861371	4.254995438034145	\N	model	2026-11-26 10:48:58.954701+00
1	u10	4	i05	0.33177776313398155	3.023626692485043	\N	model	2026-11-26 10:48:58.954701+00
1	u11	1	i00	0.6459169283376198	3.304696131085801	\N	model	2026-11-26 10:48:58.954701+00
1	u11	2	i12	0.5806199653416697	3.241988927858473	\N	model	2026-11-26 10:48:58.954701+00
1	u11	3	i08	0.5622568911576629	4.370679523888685	\N	model	2026-11-26 10:48:58.954701+00
1	u11	4	i03	0.5601341104056827	3.805772728053438	\N	model	2026-11-26 10:48:58.954701+00
1	u11	5	i15	0.5491613946114615	3.2468752984698535	\N	model	2026-11-26 10:48:58.954701+00
1	u12	1	i04	0.829978307980054	4.229715586081128	\N	model	2026-11-26 10:48:58.954701+00
1	u12	2	i09	0.6167474211699331	4.390104980403386	\N	model	2026-11-26 10:48:58.954701+00
1	u12	3	i10	0.5629515946332058	2.7524180290629574	\N	model	2026-11-26 10:48:58.954701+00
1	u12	4	i12	0.554585971944654	2.690074202479769	\N	model	2026-11-26 10:48:58.954701+00
1	u12	5	i06	0.5059484891666903	2.9186621019393426	\N	model	2026-11-26 10:48:58.954701+00
1	u13	1	i10	0.8630460504926978	4.516720678808938	\N	model	2026-11-26 10:48:58.954701+00
1	u13	2	i03	0.7158582078890391	3.708340193400477	\N	model	2026-11-26 10:48:58.954701+00
1	u13	3	i12	0.6299596556381983	3.1305023878691345	\N	model	2026-11-26 10:48:58.954701+00
1	u13	4	i09	0.6151160287291582	4.491910659733364	\N	model	2026-11-26 10:48:58.954701+00
1	u13	5	i05	0.3825792431485944	2.6690785049911643	\N	model	2026-11-26 10:48:58.954701+00
1	u14	1	i06	0.8128942158130759	3.8100599013421887	\N	model	2026-11-26 10:48:58.954701+00
1	u14	2	i11	0.7069955428687322	3.4410089676254376	\N	model	2026-11-26 10:48:58.954701+00
1	u14	3	i13	0.6989688956145521	3.3717811680951253	\N	model	2026-11-26 10:48:58.954701+00
1	u14	4	i10	0.6907950267192362	3.901666033478219	\N	model	2026-11-26 10:48:58.954701+00
1	u14	5	i01	0.4360898380817848	2.092058448416607	\N	model	2026-11-26 10:48:58.954701+00
1	u15	1	i09	1.1339624406125066	4.9308530665959225	\N	model	2026-11-26 10:48:58.954701+00
1	u15	2	i05	0.6286359127690577	3.9403110918076165	\N	model	2026-11-26 10:48:58.954701+00
1	u15	3	i11	0.601828530801491	3.3069680673160917	\N	model	2026-11-26 10:48:58.954701+00
1	u15	4	i08	0.5808137609879669	4.385933794831735	\N	model	2026-11-26 10:48:58.954701+00
1	u15	5	i10	0.5301204441229359	3.811008521148871	\N	model	2026-11-26 10:48:58.954701+00
1	u16	1	i06	0.7920327520390273	3.5842477779551354	\N	model	2026-11-26 10:48:58.954701+00
1	u16	2	i03	0.7113362942302037	3.44821160063051	\N	model	2026-11-26 10:48:58.954701+00
1	u16	3	i00	0.5139823430077683	2.753550349035004	\N	model	2026-11-26 10:48:58.954701+00
1	u17	1	i00	0.6696184176249602	3.7987442632232478	\N	model	2026-11-26 10:48:58.954701+00
1	u17	2	i13	0.6535047616864222	3.3537659918391376	\N	model	2026-11-26 10:48:58.954701+00
1	u17	3	i10	0.6369677105535443	2.909816323558003	\N	model	2026-11-26 10:48:58.954701+00
1	u17	4	i02	0.5694747191590284	3.651682155254286	\N	model	2026-11-26 10:48:58.954701+00
1	u17	5	i01	0.5324162712981045	2.940448427205511	\N	model	2026-11-26 10:48:58.954701+00
1	u18	1	i02	0.7477262552956084	3.6748165327438693	\N	model	2026-11-26 10:48:58.954701+00
1	u18	2	i03	0.6670500986864842	3.388894220104473	\N	model	2026-11-26 10:48:58.954701+00
1	u18	3	i01	0.6391258690222962	2.954645353326412	\N	model	2026-11-26 10:48:58.954701+00
1	u18	4	i12	0.579790577177038	2.825358820282911	\N	model	2026-11-26 10:48:58.954701+00
1	u18	5	i14	0.540563136280936	3.485792387296602	\N	model	2026-11-26 10:48:58.954701+00
1	u19	1	i05	0.6502000910518451	3.3664633901151713	\N	model	2026-11-26 10:48:58.954701+00
1	u19	2	i14	0.6491981928967814	3.7709558138760766	\N	model	2026-11-26 10:48:58.954701+00
1	u19	3	i06	0.6476601078975839	3.442108876565523	\N	model	2026-11-26 10:48:58.954701+00
1	u19	4	i08	0.5133079784439198	3.9356248135496417	\N	model	2026-11-26 10:48:58.954701+00
1	u19	5	i15	0.41426231222362286	2.791582249581762	\N	model	2026-11-26 10:48:58.954701+00
1	u20	1	i04	0.7824989595472007	4.115202839045643	\N	model	2026-11-26 10:48:58.954701+00
1	u20	2	i05	0.7237144338055361	3.7912217586855466	\N	model	2026-11-26 10:48:58.954701+00
1	u20	3	i06	0.4328526188300963	2.6236765026844044	\N	model	2026-11-26 10:48:58.954701+00
1	u20	4	i13	0.41698473355949917	2.9955681616318164	\N	model	2026-11-26 10:48:58.954701+00
1	u20	5	i08	0.15747850027495502	3.0629126166229055	\N	model	2026-11-26 10:48:58.954701+00
1	u21	1	i02	0.6137216128491594	3.528470872584384	\N	model	2026-11-26 10:48:58.954701+00
1	u21	2	i13	0.5119570979325747	2.7764608279215715	\N	model	2026-11-26 10:48:58.954701+00
1	u21	3	i09	0.44868965557132334	4.135569043945469	\N	model	2026-11-26 10:48:58.954701+00
1	u21	4	i14	0.08791577345574453	2.762291288348756	\N	model	2026-11-26 10:48:58.954701+00
1	u21	5	i15	-0.04808082041397377	1	\N	model	2026-11-26 10:48:58.954701+00
\.


--
-- Data for Name: recommendation_rows_v2; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.recommendation_rows_v2 (model_version, user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source, generated_at) FROM stdin;
2	u00	1	i04	0.7962317069032542	4.483823585483776	\N	model	2026-11-26 10:49:23.868978+00
2	u00	2	i12	0.6382748029920329	3.215228555361764	\N	model	2026-11-26 10:49:23.868978+00
2	u00	3	i00	0.46882905559304255	3.1697659050579032	\N	model	2026-11-26 10:49:23.868978+00
2	u00	4	i05	0.4294835155946366	3.6430270905534146	\N	model	2026-11-26 10:49:23.868978+00
2	u01	1	i04	0.7019873321732532	4.044889755752719	\N	model	2026-11-26 10:49:23.868978+00
2	u01	2	i07	0.5382027820864107	2.6286001439431046	\N	model	2026-11-26 10:49:23.868978+00
2	u01	3	i15	0.47274020366421343	3.14049901151545	\N	model	2026-11-26 10:49:23.868978+00
2	u01	4	i08	0.4634583027509689	4.161017064250184	\N	model	2026-11-26 10:49:23.868978+00
2	u01	5	i03	0.44331268198453566	3.4810879171836397	\N	model	2026-11-26 10:49:23.868978+00
2	u02	1	i13	0.7636594809378123	3.5189587925796193	\N	model	2026-11-26 10:49:23.868978+00
2	u02	2	i08	0.6865554049772284	4.000351289572292	\N	model	2026-11-26 10:49:23.868978+00
2	u02	3	i09	0.5954639081820747	4.080877114329123	\N	model	2026-11-26 10:49:23.868978+00
2	u02	4	i15	0.5277342411483255	3.090247408756171	\N	model	2026-11-26 10:49:23.868978+00
2	u02	5	i14	0.46639284193980224	3.689741708084053	\N	model	2026-11-26 10:49:23.868978+00
2	u03	1	i15	0.6333996996696207	2.9045913483735006	\N	model	2026-11-26 10:49:23.868978+00
2	u03	2	i03	0.6053147311774802	3.4499195029697076	\N	model	2026-11-26 10:49:23.868978+00
2	u03	3	i07	0.5203638609448875	2.901757034540104	\N	model	2026-11-26 10:49:23.868978+00
2	u03	4	i01	0.5141261390818619	2.5220679115860807	\N	model	2026-11-26 10:49:23.868978+00
2	u03	5	i05	0.46792772546846884	3.3416740883937983	\N	model	2026-11-26 10:49:23.868978+00
2	u04	1	i04	0.7268216018866049	3.7574531965665	\N	model	2026-11-26 10:49:23.868978+00
2	u04	2	i13	0.6465492222436955	3.5936051276523426	\N	model	2026-11-26 10:49:23.868978+00
2	u04	3	i11	0.3661757860911692	2.3265839994325157	\N	model	2026-11-26 10:49:23.868978+00
2	u04	4	i14	0.3496571591229214	3.2384353704357305	\N	model	2026-11-26 10:49:23.868978+00
2	u04	5	i08	0.26424607997410376	3.3733311121813543	\N	model	2026-11-26 10:49:23.868978+00
2	u05	1	i08	1.0590799467346557	4.865319614687467	\N	model	2026-11-26 10:49:23.868978+00
2	u05	2	i06	0.9223434901348586	4.214765230100131	\N	model	2026-11-26 10:49:23.868978+00
2	u05	3	i12	0.654639271165701	3.0416275236832044	\N	model	2026-11-26 10:49:23.868978+00
2	u06	1	i04	0.7507349374476401	4.159000666861528	\N	model	2026-11-26 10:49:23.868978+00
2	u06	2	i09	0.7230761007480648	4.528783996309146	\N	model	2026-11-26 10:49:23.868978+00
2	u06	3	i02	0.5285492701321715	3.062579983204154	\N	model	2026-11-26 10:49:23.868978+00
2	u07	1	i15	0.7072131663815726	3.6047917268575747	\N	model	2026-11-26 10:49:23.868978+00
2	u07	2	i11	0.6794756903640592	3.62861924469214	\N	model	2026-11-26 10:49:23.868978+00
2	u07	3	i04	0.46507865899119505	4.488925553892166	\N	model	2026-11-26 10:49:23.868978+00
2	u07	4	i05	0.40268394183109857	3.5740258925289647	\N	model	2026-11-26 10:49:23.868978+00
2	u07	5	i14	0.3923546535537874	4.367754831862765	\N	model	2026-11-26 10:49:23.868978+00
2	u08	1	i04	0.8488974514793803	4.198648092139896	\N	model	2026-11-26 10:49:23.868978+00
2	u08	2	i02	0.6786750007263626	3.3677085059182437	\N	model	2026-11-26 10:49:23.868978+00
2	u09	1	i10	0.7862671525136471	3.9410159859442015	\N	model	2026-11-26 10:49:23.868978+00
2	u09	2	i03	0.7607704395802283	3.6613171669771005	\N	model	2026-11-26 10:49:23.868978+00
2	u09	3	i06	0.6438232968137956	3.7848811379198004	\N	model	2026-11-26 10:49:23.868978+00
2	u09	4	i09	0.6167776446004909	4.45540428661165	\N	model	2026-11-26 10:49:23.868978+00
2	u09	5	i15	0.5944864593582317	3.4564341277433477	\N	model	2026-11-26 10:49:23.868978+00
2	u10	1	i11	0.770199187438493	3.8186864588624205	\N	model	2026-11-26 10:49:23.868978+00
2	u10	2	i04	0.7529418216838197	4.237985289087045	\N	model	2026-11-26 10:49:23.868978+00
2	u10	3	i10	0.6849141493903801	4.245249822505398	\N	model	2026-11-26 10:49:23.868978+00
2	u10	4	i05	0.36736452487446947	3.0424000781930607	\N	model	2026-11-26 10:49:23.868978+00
2	u11	1	i00	0.6599648562031758	3.2540353237128627	\N	model	2026-11-26 10:49:23.868978+00
2	u11	2	i12	0.5881186839938786	3.2406308254097285	\N	model	2026-11-26 10:49:23.868978+00
2	u11	3	i03	0.5315128551738997	3.7773149397390275	\N	model	2026-11-26 10:49:23.868978+00
2	u11	4	i15	0.5242147123260046	3.253527779958766	\N	model	2026-11-26 10:49:23.868978+00
2	u11	5	i08	0.5126054690763737	4.390185181296284	\N	model	2026-11-26 10:49:23.868978+00
2	u12	1	i04	0.8096691895849635	4.0139319851351525	\N	model	2026-11-26 10:49:23.868978+00
2	u12	2	i09	0.7601350581582023	4.256976620732171	\N	model	2026-11-26 10:49:23.868978+00
2	u12	3	i12	0.5183125128762152	2.5221010660943817	\N	model	2026-11-26 10:49:23.868978+00
2	u12	4	i10	0.49854026098472026	2.6897799069114723	\N	model	2026-11-26 10:49:23.868978+00
2	u12	5	i06	0.43907046400443317	2.5079776943236776	\N	model	2026-11-26 10:49:23.868978+00
2	u13	1	i10	0.8836689432546097	4.553639313493778	\N	model	2026-11-26 10:49:23.868978+00
2	u13	2	i03	0.7511974827393857	3.8440689056116044	\N	model	2026-11-26 10:49:23.868978+00
2	u13	3	i09	0.7255969363828312	4.458168837467305	\N	model	2026-11-26 10:49:23.868978+00
2	u13	4	i12	0.6292597174139978	3.115523146725989	\N	model	2026-11-26 10:49:23.868978+00
2	u13	5	i05	0.4360428927681852	2.6944399294040497	\N	model	2026-11-26 10:49:23.868978+00
2	u14	1	i06	0.811162228088449	3.722755619735972	\N	model	2026-11-26 10:49:23.868978+00
2	u14	2	i10	0.7228290813599418	3.9326001017479326	\N	model	2026-11-26 10:49:23.868978+00
2	u14	3	i11	0.7078033597709297	3.4533637944751643	\N	model	2026-11-26 10:49:23.868978+00
2	u14	4	i13	0.6888330897006583	3.4563451334233877	\N	model	2026-11-26 10:49:23.868978+00
2	u14	5	i01	0.427845222810717	2.0762777752635815	\N	model	2026-11-26 10:49:23.868978+00
2	u15	1	i09	1.1259499374747597	4.956506183266689	\N	model	2026-11-26 10:49:23.868978+00
2	u15	2	i11	0.6065824628056176	3.3447550409640563	\N	model	2026-11-26 10:49:23.868978+00
2	u15	3	i05	0.5702810010103905	3.9291485959496075	\N	model	2026-11-26 10:49:23.868978+00
2	u15	4	i08	0.5252509324006833	4.463967180995921	\N	model	2026-11-26 10:49:23.868978+00
2	u15	5	i10	0.4712128195781553	3.7823500900009286	\N	model	2026-11-26 10:49:23.868978+00
2	u16	1	i06	0.7706614180512323	3.43919204532969	\N	model	2026-11-26 10:49:23.868978+00
2	u16	2	i03	0.7336694497326934	3.5311944939081954	\N	model	2026-11-26 10:49:23.868978+00
2	u16	3	i00	0.49535577061651415	2.7704394288169523	\N	model	2026-11-26 10:49:23.868978+00
2	u17	1	i13	0.7941684362564303	3.7794564534878026	\N	model	2026-11-26 10:49:23.868978+00
2	u17	2	i00	0.691951912001302	3.7971006951224755	\N	model	2026-11-26 10:49:23.868978+00
2	u17	3	i09	0.6911727248890145	4.558877402350826	\N	model	2026-11-26 10:49:23.868978+00
2	u17	4	i02	0.5745004835524015	3.6671149083980437	\N	model	2026-11-26 10:49:23.868978+00
2	u17	5	i10	0.5643160045254323	2.924186083382126	\N	model	2026-11-26 10:49:23.868978+00
2	u18	1	i02	0.7133057766298401	3.6504883972596716	\N	model	2026-11-26 10:49:23.868978+00
2	u18	2	i03	0.6732235892860476	3.3456911586856117	\N	model	2026-11-26 10:49:23.868978+00
2	u18	3	i01	0.6185413620822884	2.8751305852722853	\N	model	2026-11-26 10:49:23.868978+00
2	u18	4	i12	0.5549323052212465	2.7965575003890795	\N	model	2026-11-26 10:49:23.868978+00
2	u18	5	i14	0.4678050693807657	3.5185537427368683	\N	model	2026-11-26 10:49:23.868978+00
2	u19	1	i05	0.6598081234125485	3.350816251576028	\N	model	2026-11-26 10:49:23.868978+00
2	u19	2	i06	0.6114576357748296	3.4377340485049173	\N	model	2026-11-26 10:49:23.868978+00
2	u19	3	i14	0.5902014894758152	3.815126348341749	\N	model	2026-11-26 10:49:23.868978+00
2	u19	4	i08	0.453245404237516	3.9472045906007995	\N	model	2026-11-26 10:49:23.868978+00
2	u19	5	i15	0.41513859719484203	2.793011013935953	\N	model	2026-11-26 10:49:23.868978+00
2	u20	1	i04	0.7876430868018416	4.00346561647839	\N	model	2026-11-26 10:49:23.868978+00
2	u20	2	i05	0.6798055272082424	3.7478170153525356	\N	model	2026-11-26 10:49:23.868978+00
2	u20	3	i13	0.5226527794036606	3.59694606459549	\N	model	2026-11-26 10:49:23.868978+00
2	u20	4	i06	0.43826447464545204	2.4368435891501976	\N	model	2026-11-26 10:49:23.868978+00
2	u20	5	i15	0.17403595397635596	1.5899004156165906	\N	model	2026-11-26 10:49:23.868978+00
2	u21	1	i09	0.6479778916300836	4.1977878292320385	\N	model	2026-11-26 10:49:23.868978+00
2	u21	2	i02	0.5739694952524155	3.6470703526897363	\N	model	2026-11-26 10:49:23.868978+00
2	u21	3	i14	0.08881815766840129	2.796952794760272	\N	model	2026-11-26 10:49:23.868978+00
2	u22	1	i07	0.5781499138968891	2.823641750313542	\N	model	2026-11-26 10:49:23.868978+00
2	u22	2	i00	0.5208907259427042	2.8598067928503452	\N	model	2026-11-26 10:49:23.868978+00
2	u22	3	i08	0.4500413148764606	3.370521773658832	\N	model	2026-11-26 10:49:23.868978+00
2	u22	4	i02	0.44943472217484237	2.9599859569557814	\N	model	2026-11-26 10:49:23.868978+00
2	u22	5	i01	0.4384549771996234	2.3228750446282254	\N	model	2026-11-26 10:49:23.868978+00
2	u23	1	i04	0.7294743505674053	4.078304960705709	\N	model	2026-11-26 10:49:23.868978+00
2	u23	2	i11	0.6682362710055259	3.1597700591782085	\N	model	2026-11-26 10:49:23.868978+00
2	u23	3	i14	0.6252348043287643	3.9156262880966484	\N	model	2026-11-26 10:49:23.868978+00
2	u23	4	i12	0.5859289262297906	2.8824588774294515	\N	model	2026-11-26 10:49:23.868978+00
2	u23	5	i07	0.472367638472857	2.7472223210311757	\N	model	2026-11-26 10:49:23.868978+00
\.


--
-- Data for Name: rejected_ratings; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.rejected_ratings (batch_id, file, line, raw, reason) FROM stdin;
2	two.csv	5	u00,i06,many,2020-01-04T00:00:00+00:00	the rating 'many' is not a number
2	two.csv	11	u00,i13,five,2020-01-10T00:00:00+00:00	the rating 'five' is not a number
\.


--
-- Data for Name: similar_items; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.similar_items (model_version, item_id, rank, similar_item_id, score) FROM stdin;
1	i00	1	i07	0.9870661925939253
1	i00	2	i01	0.9310712455336652
1	i01	1	i02	0.9875597423764595
1	i01	2	i04	0.9833525782353876
1	i02	1	i01	0.9875597423764595
1	i02	2	i04	0.9622458682728581
1	i03	1	i13	0.9732074871824061
1	i03	2	i12	0.9575687017871708
1	i04	1	i01	0.9833525782353876
1	i04	2	i12	0.9724319634580004
1	i05	1	i07	0.9537270940637645
1	i05	2	i00	0.8948711117094907
1	i06	1	i11	0.9643068320842829
1	i06	2	i15	0.9307601239754675
1	i07	1	i00	0.9870661925939253
1	i07	2	i05	0.9537270940637645
1	i08	1	i11	0.9711577440009371
1	i08	2	i15	0.9486677239014583
1	i09	1	i14	0.8938823033723853
1	i09	2	i02	0.8885721751455895
1	i10	1	i13	0.9858116511757424
1	i10	2	i03	0.9415257051771908
1	i11	1	i08	0.9711577440009371
1	i11	2	i06	0.9643068320842829
1	i12	1	i04	0.9724319634580004
1	i12	2	i03	0.9575687017871708
1	i13	1	i10	0.9858116511757424
1	i13	2	i03	0.9732074871824061
1	i14	1	i06	0.9177050496579469
1	i14	2	i09	0.8938823033723853
1	i15	1	i08	0.9486677239014583
1	i15	2	i06	0.9307601239754675
2	i00	1	i07	0.9918510673287833
2	i00	2	i01	0.9249160511063257
2	i01	1	i04	0.990167967198817
2	i01	2	i02	0.9789075734951991
2	i02	1	i09	0.9915717755294455
2	i02	2	i01	0.9789075734951991
2	i03	1	i13	0.9953255909656675
2	i03	2	i10	0.9372803267682115
2	i04	1	i01	0.990167967198817
2	i04	2	i12	0.9648392532651824
2	i05	1	i07	0.9189953230322665
2	i05	2	i03	0.8917448438901598
2	i06	1	i11	0.9612799349979966
2	i06	2	i15	0.9456351161663932
2	i07	1	i00	0.9918510673287833
2	i07	2	i01	0.9461304148434353
2	i08	1	i15	0.9785800555553266
2	i08	2	i11	0.9482273092871516
2	i09	1	i02	0.9915717755294455
2	i09	2	i01	0.949351813534907
2	i10	1	i13	0.9378546030528372
2	i10	2	i03	0.9372803267682115
2	i11	1	i15	0.9726090372130987
2	i11	2	i06	0.9612799349979966
2	i12	1	i04	0.9648392532651824
2	i12	2	i11	0.9285212026362775
2	i13	1	i03	0.9953255909656675
2	i13	2	i10	0.9378546030528372
2	i14	1	i06	0.9436568863419261
2	i14	2	i09	0.8492680077479323
2	i15	1	i08	0.9785800555553266
2	i15	2	i11	0.9726090372130987
\.


--
-- Data for Name: snapshots; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.snapshots (snapshot_id, split_id, uri, sha256, protocol, n_train, n_test, n_users, n_items, cold_users, cold_items, cold_test_ratings, created_at, unrated_users, unrated_items) FROM stdin;
fa2ae1cce2f3-3a4c400911306737	fa2ae1cce2f3	file:///srv/mf/artifacts/snapshots/fa2ae1cce2f3-3a4c400911306737	0f7a85e25d45a9f7711d578ab693e2485d8f4d13980ee8c347813aec71eb68f4	hash	166	67	22	16	0	0	0	2026-11-26 10:48:43.098319+00	0	0
fa2ae1cce2f3-ef92566a724284b4	fa2ae1cce2f3	file:///srv/mf/artifacts/snapshots/fa2ae1cce2f3-ef92566a724284b4	9e6a2be2d641fd15a055af96a4f3812667018cac730a6c9f4136dc19bf4ce97e	hash	178	75	24	16	0	0	0	2026-11-26 10:49:00.518278+00	0	0
\.


--
-- Data for Name: users; Type: TABLE DATA; Schema: mf; Owner: -
--

COPY mf.users (user_id, attributes) FROM stdin;
\.


--
-- Name: gate_decisions_decision_id_seq; Type: SEQUENCE SET; Schema: mf; Owner: -
--

SELECT pg_catalog.setval('mf.gate_decisions_decision_id_seq', 6, true);


--
-- Name: ingest_batches_batch_id_seq; Type: SEQUENCE SET; Schema: mf; Owner: -
--

SELECT pg_catalog.setval('mf.ingest_batches_batch_id_seq', 2, true);


--
-- Name: models_model_version_seq; Type: SEQUENCE SET; Schema: mf; Owner: -
--

SELECT pg_catalog.setval('mf.models_model_version_seq', 3, true);


--
-- Name: promotions_promotion_id_seq; Type: SEQUENCE SET; Schema: mf; Owner: -
--

SELECT pg_catalog.setval('mf.promotions_promotion_id_seq', 2, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: evaluations evaluations_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.evaluations
    ADD CONSTRAINT evaluations_pkey PRIMARY KEY (snapshot_id, model_version, subject, head, metric, slice);


--
-- Name: forgotten_users forgotten_users_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.forgotten_users
    ADD CONSTRAINT forgotten_users_pkey PRIMARY KEY (user_id);


--
-- Name: gate_decisions gate_decisions_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.gate_decisions
    ADD CONSTRAINT gate_decisions_pkey PRIMARY KEY (decision_id);


--
-- Name: hidden_items hidden_items_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.hidden_items
    ADD CONSTRAINT hidden_items_pkey PRIMARY KEY (item_id);


--
-- Name: ingest_batches ingest_batches_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.ingest_batches
    ADD CONSTRAINT ingest_batches_pkey PRIMARY KEY (batch_id);


--
-- Name: items items_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.items
    ADD CONSTRAINT items_pkey PRIMARY KEY (item_id);


--
-- Name: live live_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.live
    ADD CONSTRAINT live_pkey PRIMARY KEY ("only");


--
-- Name: model_artifacts model_artifacts_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.model_artifacts
    ADD CONSTRAINT model_artifacts_pkey PRIMARY KEY (model_version, head, stage);


--
-- Name: models models_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.models
    ADD CONSTRAINT models_pkey PRIMARY KEY (model_version);


--
-- Name: models models_run_key_key; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.models
    ADD CONSTRAINT models_run_key_key UNIQUE (run_key);


--
-- Name: popular_items popular_items_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.popular_items
    ADD CONSTRAINT popular_items_pkey PRIMARY KEY (model_version, rank);


--
-- Name: promotions promotions_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.promotions
    ADD CONSTRAINT promotions_pkey PRIMARY KEY (promotion_id);


--
-- Name: ratings ratings_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.ratings
    ADD CONSTRAINT ratings_pkey PRIMARY KEY (user_id, item_id);


--
-- Name: recommendation_rows recommendation_rows_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.recommendation_rows
    ADD CONSTRAINT recommendation_rows_pkey PRIMARY KEY (model_version, user_id, rank);


--
-- Name: recommendation_rows_v1 recommendation_rows_v1_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.recommendation_rows_v1
    ADD CONSTRAINT recommendation_rows_v1_pkey PRIMARY KEY (model_version, user_id, rank);


--
-- Name: recommendation_rows_v2 recommendation_rows_v2_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.recommendation_rows_v2
    ADD CONSTRAINT recommendation_rows_v2_pkey PRIMARY KEY (model_version, user_id, rank);


--
-- Name: rejected_ratings rejected_ratings_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.rejected_ratings
    ADD CONSTRAINT rejected_ratings_pkey PRIMARY KEY (batch_id, file, line);


--
-- Name: similar_items similar_items_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.similar_items
    ADD CONSTRAINT similar_items_pkey PRIMARY KEY (model_version, item_id, rank);


--
-- Name: snapshots snapshots_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (snapshot_id);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);


--
-- Name: gate_decisions_model_version_idx; Type: INDEX; Schema: mf; Owner: -
--

CREATE INDEX gate_decisions_model_version_idx ON mf.gate_decisions USING btree (model_version);


--
-- Name: ingest_batches_fingerprint_idx; Type: INDEX; Schema: mf; Owner: -
--

CREATE INDEX ingest_batches_fingerprint_idx ON mf.ingest_batches USING btree (fingerprint);


--
-- Name: models_snapshot_id_idx; Type: INDEX; Schema: mf; Owner: -
--

CREATE INDEX models_snapshot_id_idx ON mf.models USING btree (snapshot_id);


--
-- Name: recommendation_rows_v1_pkey; Type: INDEX ATTACH; Schema: mf; Owner: -
--

ALTER INDEX mf.recommendation_rows_pkey ATTACH PARTITION mf.recommendation_rows_v1_pkey;


--
-- Name: recommendation_rows_v2_pkey; Type: INDEX ATTACH; Schema: mf; Owner: -
--

ALTER INDEX mf.recommendation_rows_pkey ATTACH PARTITION mf.recommendation_rows_v2_pkey;


--
-- Name: evaluations evaluations_snapshot_id_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.evaluations
    ADD CONSTRAINT evaluations_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES mf.snapshots(snapshot_id);


--
-- Name: gate_decisions gate_decisions_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.gate_decisions
    ADD CONSTRAINT gate_decisions_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: live live_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.live
    ADD CONSTRAINT live_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: model_artifacts model_artifacts_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.model_artifacts
    ADD CONSTRAINT model_artifacts_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: models models_snapshot_id_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.models
    ADD CONSTRAINT models_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES mf.snapshots(snapshot_id);


--
-- Name: popular_items popular_items_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.popular_items
    ADD CONSTRAINT popular_items_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: promotions promotions_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.promotions
    ADD CONSTRAINT promotions_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: rejected_ratings rejected_ratings_batch_id_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.rejected_ratings
    ADD CONSTRAINT rejected_ratings_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES mf.ingest_batches(batch_id);


--
-- Name: similar_items similar_items_model_version_fkey; Type: FK CONSTRAINT; Schema: mf; Owner: -
--

ALTER TABLE ONLY mf.similar_items
    ADD CONSTRAINT similar_items_model_version_fkey FOREIGN KEY (model_version) REFERENCES mf.models(model_version);


--
-- Name: SCHEMA mf; Type: ACL; Schema: -; Owner: -
--

GRANT USAGE ON SCHEMA mf TO mf_reader;


--
-- Name: FUNCTION recommendations_for(for_user_id text, n integer); Type: ACL; Schema: mf; Owner: -
--

REVOKE ALL ON FUNCTION mf.recommendations_for(for_user_id text, n integer) FROM PUBLIC;
GRANT ALL ON FUNCTION mf.recommendations_for(for_user_id text, n integer) TO mf_reader;


--
-- Name: FUNCTION split_bucket(user_id text, item_id text, seed integer); Type: ACL; Schema: mf; Owner: -
--

REVOKE ALL ON FUNCTION mf.split_bucket(user_id text, item_id text, seed integer) FROM PUBLIC;


--
-- Name: TABLE model_history; Type: ACL; Schema: mf; Owner: -
--

GRANT SELECT ON TABLE mf.model_history TO mf_reader;


--
-- Name: TABLE recommendations; Type: ACL; Schema: mf; Owner: -
--

GRANT SELECT ON TABLE mf.recommendations TO mf_reader;


--
-- PostgreSQL database dump complete
--

\unrestrict 0XwWXnC80OapVknOPdEOLPTAWRjwguNHwxcy7t17UrQ2NQ3bHHY3nPI4Ed799B2

