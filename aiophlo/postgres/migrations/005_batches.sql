-- The memory of batches that several runners work on.
-- Times are seconds since 1970 by this server's clock.

CREATE TABLE {schema}.batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    salt text NOT NULL,
    keep float8 NOT NULL,
    last_at float8 NOT NULL,
    sketch bigint[],
    settings jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE {schema}.batches IS
    'Batches; one that nobody has worked on for `keep` seconds is deleted';

CREATE TABLE {schema}.batch_runners (
    id bigint PRIMARY KEY,
    batch bigint NOT NULL,
    lease float8 NOT NULL,
    began_at float8 NOT NULL,
    until float8 NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE {schema}.batch_runners IS
    'Who works on a batch, and until when its claims are good';

CREATE TABLE {schema}.batch_rows (
    batch bigint NOT NULL,
    name bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL,
    digest text NOT NULL,
    kind text NOT NULL,
    address text,
    runner bigint,
    intended_at float8,
    settled_at float8,
    verdict text,
    reason text,
    status integer,
    api_id text,
    error text,
    attempts integer,
    seconds float8,
    PRIMARY KEY (name, batch)  -- without statistics, the batch alone could be taken
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_vacuum_insert_threshold = 10000);
-- An expression, so that it is never taken where the key's own index is meant.
CREATE UNIQUE INDEX batch_rows_ids ON {schema}.batch_rows ((batch + 0), id);
CREATE INDEX batch_rows_in_hand ON {schema}.batch_rows (runner)
    WHERE runner IS NOT NULL;
COMMENT ON TABLE {schema}.batch_rows IS
    'Claims, intents and outcomes; name and digest are salted, address is masked';

-- Salts sketches, by which lists of different batches are compared.
CREATE TABLE {schema}.batch_secret AS
    SELECT gen_random_uuid()::text || gen_random_uuid()::text AS secret;

-- An intent that a crash takes back is a phone that rings twice.
CREATE FUNCTION {schema}.commit_durably() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- Ends a runner: what it may have sent is in doubt, what it only had claimed is free.
-- It has been in doubt since the runner could send no more: who began later may repeat it.
CREATE FUNCTION {schema}.end_runner(p_id bigint, p_now float8) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM {schema}.batch_rows WHERE runner = p_id AND intended_at IS NULL;
    UPDATE {schema}.batch_rows SET
        settled_at = CASE WHEN verdict IS NULL THEN least(p_now, (
            SELECT until FROM {schema}.batch_runners WHERE id = p_id)) ELSE settled_at END,
        reason = CASE WHEN verdict IS NULL THEN 'interrupted' ELSE reason END,
        attempts = CASE WHEN verdict IS NULL THEN 1 ELSE attempts END,
        verdict = coalesce(verdict, 'in_doubt'),
        runner = NULL
        WHERE runner = p_id;
    DELETE FROM {schema}.batch_runners WHERE id = p_id;
END $$;

-- Ends runners whose lease is over for some seconds: by then they know it themselves.
-- Nobody could prolong one while this server was down.
CREATE FUNCTION {schema}.end_lost_runners(p_batch bigint, p_now float8) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    up_since float8 := extract(epoch FROM pg_postmaster_start_time());
    lost bigint;
BEGIN
    FOR lost IN
        SELECT id FROM {schema}.batch_runners
        WHERE batch = p_batch
            AND greatest(until, up_since + lease) < p_now - lease * 2 / 15
        ORDER BY id FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM {schema}.end_runner(lost, p_now);
    END LOOP;
END $$;

-- Begins to work on a batch, which is made if there is none of that name.
CREATE FUNCTION {schema}.begin_batch(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    now float8 := extract(epoch FROM clock_timestamp());
    b {schema}.batches;
BEGIN
    PERFORM {schema}.commit_durably();
    INSERT INTO {schema}.batches AS old (name, salt, keep, last_at)
        VALUES (p->>'name', p->>'salt', (p->>'keep')::float8, now)
        ON CONFLICT (name) DO UPDATE SET last_at = now, keep = excluded.keep
        RETURNING * INTO b;
    INSERT INTO {schema}.batch_runners AS old (id, batch, lease, began_at, until)
        VALUES ((p->>'runner')::bigint, b.id, (p->>'lease')::float8, now,
            now + (p->>'lease')::float8)
        ON CONFLICT (id) DO UPDATE SET until = excluded.until;
    RETURN jsonb_build_object('batch', b.id, 'salt', b.salt);
END $$;

-- Claims rows: new ones, and those that an earlier run didn't send. Returns of each, in
-- their order, null if it is claimed and nothing is known of it.
CREATE FUNCTION {schema}.claim_rows(
    p_runner {schema}.batch_runners, p_rows jsonb, p_in_doubt boolean
) RETURNS jsonb
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    names bigint[] := ARRAY(
        SELECT (item->>'name')::bigint FROM jsonb_array_elements(p_rows) item);
    answer jsonb;
BEGIN
    INSERT INTO {schema}.batch_rows (batch, name, key, digest, kind, address, runner)
        SELECT p_runner.batch, c.name, c.key, c.digest, c.kind, c.address, p_runner.id
        FROM jsonb_to_recordset(p_rows)
            AS c(name bigint, key text, digest text, kind text, address text)
        ORDER BY c.name
        ON CONFLICT (name, batch) DO NOTHING;
    PERFORM FROM {schema}.batch_rows r
        WHERE r.batch = p_runner.batch AND r.name = ANY(names)
            AND r.runner IS NULL AND r.settled_at < p_runner.began_at
            AND (r.verdict = 'not_sent' OR p_in_doubt AND r.verdict = 'in_doubt')
        ORDER BY r.name + 0 FOR UPDATE;  -- not in the index's order: it would read all
    UPDATE {schema}.batch_rows r SET runner = p_runner.id
        WHERE r.batch = p_runner.batch AND r.name = ANY(names)
            AND r.runner IS NULL AND r.settled_at < p_runner.began_at
            AND (r.verdict = 'not_sent' OR p_in_doubt AND r.verdict = 'in_doubt');
    SELECT jsonb_agg(CASE
            WHEN r.runner = p_runner.id AND r.intended_at IS NULL THEN NULL
            WHEN r.name IS NULL THEN '{"held": "other"}'
            ELSE jsonb_build_object(
                'held', CASE WHEN r.runner = p_runner.id THEN 'own'
                    WHEN r.runner IS NOT NULL THEN 'other' END,
                'digest', r.digest, 'verdict', r.verdict, 'reason', r.reason,
                'status', r.status, 'api_id', r.api_id, 'error', r.error,
                'attempts', r.attempts, 'seconds', r.seconds,
                'intended_at', r.intended_at) END
        ORDER BY c.place)
        INTO answer
        FROM unnest(names) WITH ORDINALITY AS c(name, place)
        LEFT JOIN LATERAL (
            SELECT * FROM {schema}.batch_rows one
            WHERE one.batch = p_runner.batch AND one.name = c.name OFFSET 0) r ON true;
    RETURN answer;
END $$;

-- Does what a runner asks, all or nothing, if it is still taken for alive.
CREATE FUNCTION {schema}.work_on_batch(p jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    now float8 := extract(epoch FROM clock_timestamp());
    own {schema}.batch_runners;
    answer jsonb := '{}';
    o record;
    names bigint[];
BEGIN
    PERFORM {schema}.commit_durably();
    UPDATE {schema}.batch_runners SET until = now + lease
        WHERE id = (p->>'runner')::bigint RETURNING * INTO own;
    IF NOT FOUND THEN
        RETURN '{"gone": true}';
    END IF;
    -- One by one, or by arrays: what joins could be planned the wrong way round.
    FOR o IN
        SELECT * FROM jsonb_to_recordset(p->'outcomes') AS asked(
            name bigint, verdict text, reason text, status integer, api_id text,
            error text, attempts integer, seconds float8)
    LOOP
        UPDATE {schema}.batch_rows r SET
            settled_at = now, intended_at = coalesce(r.intended_at, now),
            verdict = o.verdict, reason = o.reason, status = o.status,
            api_id = o.api_id, error = o.error, attempts = o.attempts,
            seconds = o.seconds, runner = NULL
            WHERE r.batch = own.batch AND r.name = o.name AND r.runner = own.id;
    END LOOP;
    IF p ? 'releases' THEN
        names := {schema}.integers(p->'releases');
        DELETE FROM {schema}.batch_rows r
            WHERE r.batch = own.batch AND r.name = ANY(names) AND r.runner = own.id
                AND r.intended_at IS NULL;
        UPDATE {schema}.batch_rows r SET runner = NULL
            WHERE r.batch = own.batch AND r.name = ANY(names) AND r.runner = own.id
                AND r.verdict IS NOT NULL;
    END IF;
    IF p ? 'intents' THEN
        names := {schema}.integers(p->'intents');
        WITH intended AS (
            UPDATE {schema}.batch_rows r SET
                intended_at = now, settled_at = NULL, verdict = NULL, reason = NULL,
                status = NULL, api_id = NULL, error = NULL, attempts = NULL,
                seconds = NULL
                WHERE r.batch = own.batch AND r.name = ANY(names) AND r.runner = own.id
                RETURNING r.name)
        SELECT answer || jsonb_build_object('intended', coalesce(jsonb_agg(name), '[]'))
            INTO answer FROM intended;
    END IF;
    IF p ? 'claims' THEN
        answer := answer || jsonb_build_object('claims', {schema}.claim_rows(
            own, p->'claims', (p->>'in_doubt')::boolean));
    END IF;
    IF p ? 'beat' THEN
        UPDATE {schema}.batches SET last_at = now WHERE id = own.batch;
        PERFORM {schema}.end_lost_runners(own.batch, now);
    END IF;
    IF p ? 'bye' THEN
        PERFORM {schema}.end_runner(own.id, now);
    END IF;
    RETURN answer;
END $$;

-- Forgets batches that nobody has worked on for as long as they are kept.
CREATE FUNCTION {schema}.tidy_batches(p_now float8) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    over bigint;
    rest bigint;
BEGIN
    SELECT id INTO over FROM {schema}.batches
        WHERE last_at + keep < p_now ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM {schema}.batch_rows WHERE batch + 0 = over AND id IN (
        SELECT id FROM {schema}.batch_rows WHERE batch + 0 = over LIMIT 2000);
    SELECT count(*) INTO rest FROM (
        SELECT FROM {schema}.batch_rows WHERE batch + 0 = over LIMIT 1) one;
    IF rest = 0 THEN
        DELETE FROM {schema}.batch_runners WHERE batch = over;
        DELETE FROM {schema}.batches WHERE id = over;
    END IF;
END $$;
