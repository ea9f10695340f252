-- Actions that wait for a worker. procrastinate, whose tables are in this schema, hands
-- their names out; what has left and what came of it is in batch_rows, of batch 'queue'.

CREATE TABLE {schema}.queued (
    name bigint PRIMARY KEY,
    key text NOT NULL,
    digest text NOT NULL,
    account text NOT NULL,
    queue text NOT NULL,
    priority integer NOT NULL,
    phlo_id text NOT NULL,
    kind text NOT NULL,
    address text,
    action jsonb,
    send_by float8 NOT NULL,
    enqueued_at float8 NOT NULL,
    job bigint,
    runner bigint,
    token bigint,
    ended_at float8,
    awaited boolean NOT NULL DEFAULT false,
    callback jsonb,
    callback_at float8
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_vacuum_insert_threshold = 10000);
CREATE INDEX queued_in_hand ON {schema}.queued (runner) WHERE runner IS NOT NULL;
CREATE INDEX queued_send_by ON {schema}.queued (send_by) WHERE ended_at IS NULL;
CREATE INDEX queued_ended_at ON {schema}.queued (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX queued_callback_at ON {schema}.queued (callback_at)
    WHERE callback_at IS NOT NULL;
COMMENT ON TABLE {schema}.queued IS
    'Actions to be sent; numbers in the clear in `action`, null once it has ended';

-- Makes the queue's batch, if there is none; returns its salt.
CREATE FUNCTION {schema}.open_queue(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    now float8 := extract(epoch FROM clock_timestamp());
    found_salt text;
BEGIN
    IF to_regclass('{schema}.procrastinate_jobs') IS NULL THEN
        RETURN '{"missing": true}';
    END IF;
    INSERT INTO {schema}.batches (name, salt, keep, last_at)
        VALUES ('queue', p->>'salt', (p->>'keep')::float8, now)
        ON CONFLICT (name) DO NOTHING;
    SELECT salt INTO found_salt FROM {schema}.batches WHERE name = 'queue';
    RETURN jsonb_build_object('salt', found_salt);
END $$;

-- Gives actions to procrastinate, in their order; what jobs they had are over.
CREATE FUNCTION {schema}.hand_out(p_names bigint[], p_at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    ids bigint[];
BEGIN
    DELETE FROM procrastinate_jobs WHERE id = ANY(ARRAY(
        SELECT q.job FROM queued q WHERE q.name = ANY(p_names) AND q.job IS NOT NULL));
    ids := procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW(q.queue, 'aiophlo', q.priority, NULL, NULL,
            jsonb_build_object('name', q.name), p_at)::procrastinate_job_to_defer_v1
        FROM unnest(p_names) WITH ORDINALITY AS asked(name, place)
        CROSS JOIN LATERAL (
            SELECT * FROM queued one WHERE one.name = asked.name OFFSET 0) q
        WHERE q.ended_at IS NULL ORDER BY asked.place));
    UPDATE queued q SET job = j.id, runner = NULL, token = NULL
        FROM procrastinate_jobs j
        WHERE j.id = ANY(ids) AND q.name = (j.args->>'name')::bigint;
END $$;

-- Ends those actions whose row says what came of them; its word alone counts.
CREATE FUNCTION {schema}.end_queued(p_batch bigint, p_names bigint[], p_now float8)
RETURNS void
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    ended bigint[];
    jobs bigint[];
    notices jsonb;
BEGIN
    SELECT array_agg(q.name), array_agg(q.job),
            jsonb_agg(jsonb_build_array('ended', q.name::text)) FILTER (WHERE q.awaited)
        INTO ended, jobs, notices
        FROM unnest(p_names) AS asked(name)
        CROSS JOIN LATERAL (
            SELECT * FROM queued one WHERE one.name = asked.name OFFSET 0) q
        CROSS JOIN LATERAL (
            SELECT * FROM batch_rows one
            WHERE one.name = asked.name AND one.batch = p_batch OFFSET 0) r
        WHERE q.ended_at IS NULL AND r.verdict IS NOT NULL AND r.runner IS NULL;
    IF ended IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM procrastinate_jobs WHERE id = ANY(jobs);
    UPDATE queued SET ended_at = p_now, action = NULL, job = NULL, runner = NULL,
        token = NULL, callback_at = CASE WHEN callback IS NOT NULL THEN p_now END
        WHERE name = ANY(ended);
    IF notices IS NOT NULL THEN
        PERFORM notify(trim(BOTH '"' FROM '{schema}'), notices);
    END IF;
END $$;

-- Puts actions in the queue. Returns of each, in their order, whether it is new, known,
-- or its key is known for another action.
CREATE FUNCTION {schema}.enqueue(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    now float8 := extract(epoch FROM clock_timestamp());
    names bigint[] := ARRAY(
        SELECT (item->>'name')::bigint FROM jsonb_array_elements(p->'rows') item);
    fresh bigint[];
    added bigint[];
    memory bigint := (SELECT id FROM batches WHERE name = 'queue');
    answer jsonb;
BEGIN
    PERFORM commit_durably();
    WITH written AS (
        INSERT INTO queued (name, key, digest, account, queue, priority, phlo_id, kind,
                address, action, send_by, enqueued_at, callback)
            SELECT r.name, r.key, r.digest, r.account, r.queue, r.priority, r.phlo_id,
                r.kind, r.address, r.action, coalesce(r.send_by, now + r.send_within),
                now, r.callback
            FROM jsonb_to_recordset(p->'rows') AS r(
                name bigint, key text, digest text, account text, queue text,
                priority integer, phlo_id text, kind text, address text, action jsonb,
                send_by float8, send_within float8, callback jsonb)
            WHERE NOT EXISTS (  -- sent once otherwise, under the same key
                SELECT FROM batch_rows sent WHERE sent.batch = memory
                    AND sent.name = r.name AND sent.digest <> r.digest)
            ORDER BY r.name
            ON CONFLICT (name) DO NOTHING RETURNING name)
    SELECT array_agg(name) INTO fresh FROM written;
    added := ARRAY(SELECT asked.name FROM unnest(names) WITH ORDINALITY
        AS asked(name, place) WHERE asked.name = ANY(fresh) ORDER BY asked.place);
    IF added <> '{}' THEN
        PERFORM hand_out(added, NULL);
        PERFORM notify(trim(BOTH '"' FROM '{schema}'), '[["queued"]]');
    END IF;
    SELECT jsonb_agg(CASE
            WHEN q.name = ANY(added) THEN 'new'
            WHEN q.digest = one.item->>'digest' AND q.account = one.item->>'account'
                THEN 'known'
            ELSE 'other' END ORDER BY one.at)
        INTO answer
        FROM jsonb_array_elements(p->'rows') WITH ORDINALITY AS one(item, at)
        LEFT JOIN LATERAL (SELECT * FROM queued found
            WHERE found.name = (one.item->>'name')::bigint OFFSET 0) q ON true;
    RETURN answer;
END $$;

-- Returns what came of a key: null if it is unknown, {} if nothing has yet.
CREATE FUNCTION {schema}.outcome_of(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
DECLARE
    q queued;
    answer jsonb;
BEGIN
    SELECT * INTO q FROM queued WHERE name = (p->>'name')::bigint;
    SELECT jsonb_build_object('digest', r.digest, 'verdict', r.verdict, 'reason',
            r.reason, 'status', r.status, 'api_id', r.api_id, 'error', r.error,
            'attempts', r.attempts, 'seconds', r.seconds, 'intended_at', r.intended_at,
            'phlo_id', coalesce(q.phlo_id, '-'))
        INTO answer
        FROM batch_rows r JOIN batches b ON b.id = r.batch
        WHERE r.name = (p->>'name')::bigint AND b.name = 'queue'
            AND r.verdict IS NOT NULL AND r.runner IS NULL;
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    IF q.name IS NULL THEN
        RETURN CASE WHEN EXISTS (
                SELECT FROM batch_rows r JOIN batches b ON b.id = r.batch
                WHERE r.name = (p->>'name')::bigint AND b.name = 'queue')
            THEN '{}'::jsonb END;
    END IF;
    IF (p->>'awaited')::boolean AND NOT q.awaited THEN
        UPDATE queued SET awaited = true WHERE name = q.name AND ended_at IS NULL;
    END IF;
    RETURN '{}';
END $$;

-- Begins to work on the queue.
CREATE FUNCTION {schema}.begin_queue(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
DECLARE
    worker bigint;
BEGIN
    IF to_regclass('{schema}.procrastinate_jobs') IS NULL THEN
        RETURN '{"missing": true}';
    END IF;
    IF (p->>'serves')::boolean THEN
        SELECT worker_id INTO worker FROM procrastinate_register_worker_v1();
    END IF;
    RETURN begin_batch(p) || jsonb_build_object('worker', worker);
END $$;

-- Takes actions from one of procrastinate's queues for a runner. What a lost answer
-- gave it already is given again. The jobs are read in the order of an index, as
-- procrastinate_fetch_job_v2 would sort all of a backlog for each, until the table is
-- analyzed. It waits for nobody's locks: who ends what is too late locks the other way.
CREATE FUNCTION {schema}.fetch_queued(
    p_runner {schema}.batch_runners, p jsonb, p_worker bigint, p_now float8
) RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off AS $$
DECLARE
    worker bigint;
    one record;
    q queued;
    answer jsonb;
BEGIN
    SELECT jsonb_agg(action || jsonb_build_object('left', send_by - p_now))
        INTO answer FROM queued
        WHERE runner = p_runner.id AND token = (p->>'token')::bigint;
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    answer := '[]';
    SELECT id INTO worker FROM procrastinate_workers WHERE id = p_worker;
    FOR one IN
        SELECT id, (args->>'name')::bigint AS name FROM procrastinate_jobs
            WHERE queue_name = p->>'queue' AND status = 'todo'
                AND (scheduled_at IS NULL OR scheduled_at <= to_timestamp(p_now))
            ORDER BY priority DESC, id LIMIT (p->>'most')::integer
            FOR UPDATE SKIP LOCKED
    LOOP
        SELECT * INTO q FROM queued
            WHERE name = one.name AND job = one.id FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN q.name IS NULL AND EXISTS (  -- another is about to end it
            SELECT FROM queued WHERE name = one.name AND job = one.id);
        IF q.name IS NULL OR q.ended_at IS NOT NULL THEN
            DELETE FROM procrastinate_jobs WHERE id = one.id;
            CONTINUE;
        END IF;
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker
            WHERE id = one.id;
        CONTINUE WHEN q.runner IS NOT NULL;  -- it was put back by another's hand
        INSERT INTO batch_rows (batch, name, key, digest, kind, address, runner)
            VALUES (p_runner.batch, q.name, q.key, q.digest, q.kind, q.address,
                p_runner.id)
            ON CONFLICT (name, batch) DO NOTHING;
        IF NOT FOUND THEN  -- sent otherwise, or about to be
            PERFORM end_queued(p_runner.batch, ARRAY[q.name], p_now);
            PERFORM hand_out(ARRAY[q.name], to_timestamp(p_now + 2.0))
                FROM queued WHERE name = q.name AND ended_at IS NULL;
            CONTINUE;
        END IF;
        UPDATE queued SET runner = p_runner.id, token = (p->>'token')::bigint
            WHERE name = q.name;
        answer := answer || (q.action || jsonb_build_object('left', q.send_by - p_now));
    END LOOP;
    RETURN answer;
END $$;

-- Gives actions back that did not leave, to be handed out again after some seconds.
CREATE FUNCTION {schema}.give_back(
    p_runner {schema}.batch_runners, p jsonb, p_now float8
) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    names bigint[] := {schema}.integers(p->'names');
BEGIN
    DELETE FROM {schema}.batch_rows r WHERE r.batch = p_runner.batch
        AND r.name = ANY(names) AND r.runner = p_runner.id;
    PERFORM {schema}.hand_out(
        array_agg(q.name), to_timestamp(p_now + (p->>'wait')::float8))
        FROM {schema}.queued q WHERE q.name = ANY(names) AND q.runner = p_runner.id
        HAVING count(*) > 0;
END $$;

-- Says whom to call back, for the next two minutes; and that somebody was.
CREATE FUNCTION {schema}.take_callbacks(p_batch bigint, p jsonb, p_now float8)
RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    names bigint[];
    answer jsonb;
BEGIN
    names := ARRAY(SELECT name FROM queued WHERE callback_at <= p_now
        ORDER BY callback_at LIMIT (p->>'most')::integer FOR UPDATE SKIP LOCKED);
    UPDATE queued SET callback_at = p_now + 120.0 WHERE name = ANY(names);
    SELECT coalesce(jsonb_agg(q.callback || jsonb_build_object(
            'name', q.name::text, 'verdict', r.verdict, 'reason', r.reason,
            'status', r.status, 'api_id', r.api_id, 'attempts', r.attempts,
            'seconds', r.seconds, 'ended_at', q.ended_at)), '[]')
        INTO answer
        FROM queued q JOIN batch_rows r ON r.name = q.name AND r.batch = p_batch
        WHERE q.name = ANY(names);
    RETURN answer;
END $$;

-- Takes claims back whose keys stand for another action in the queue; returns the
-- answers, where it is told.
CREATE FUNCTION {schema}.refuse_claims(
    p_runner {schema}.batch_runners, p_claims jsonb, p_answers jsonb
) RETURNS jsonb
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    others bigint[] := ARRAY(
        SELECT q.name FROM jsonb_array_elements(p_claims) item
        CROSS JOIN LATERAL (SELECT * FROM queued one
            WHERE one.name = (item->>'name')::bigint OFFSET 0) q
        WHERE q.digest <> item->>'digest');
BEGIN
    IF others = '{}' THEN
        RETURN p_answers;
    END IF;
    DELETE FROM batch_rows r WHERE r.batch = p_runner.batch AND r.name = ANY(others)
        AND r.runner = p_runner.id AND r.intended_at IS NULL;
    RETURN (SELECT jsonb_agg(CASE
                WHEN answer = 'null' AND (item->>'name')::bigint = ANY(others)
                    THEN '{"held": null, "digest": "another"}'
                ELSE answer END ORDER BY place)
        FROM ROWS FROM (jsonb_array_elements(p_claims), jsonb_array_elements(p_answers))
            WITH ORDINALITY AS asked(item, answer, place));
END $$;

-- Forgets what was sent once without the queue, the oldest first.
CREATE FUNCTION {schema}.forget_sent(p_batch bigint, p_before float8) RETURNS void
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    names bigint[] := ARRAY(
        SELECT old.name FROM (SELECT * FROM batch_rows WHERE batch + 0 = p_batch
            ORDER BY batch + 0, id LIMIT 500) old
        WHERE old.runner IS NULL AND old.settled_at < p_before
            AND NOT EXISTS (SELECT FROM queued q WHERE q.name = old.name));
BEGIN
    DELETE FROM batch_rows WHERE batch = p_batch AND name = ANY(names)
        AND runner IS NULL AND settled_at < p_before;
END $$;

-- Looks after what others left, and what nobody came to.
CREATE FUNCTION {schema}.tend_queue(p_batch bigint, p jsonb, p_now float8) RETURNS void
LANGUAGE plpgsql SET search_path = {schema}, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    names bigint[];
BEGIN
    -- In the hands of runners that were ended: their rows say which have left.
    names := ARRAY(SELECT q.name FROM queued q WHERE q.runner IS NOT NULL
        AND NOT EXISTS (SELECT FROM batch_runners b WHERE b.id = q.runner)
        ORDER BY q.name LIMIT 500 FOR UPDATE SKIP LOCKED);
    PERFORM end_queued(p_batch, names, p_now);
    PERFORM hand_out(array_agg(q.name), NULL) FROM queued q
        WHERE q.name = ANY(names) AND q.ended_at IS NULL HAVING count(*) > 0;
    -- Too late.
    names := ARRAY(SELECT q.name FROM queued q WHERE q.send_by <= p_now
        AND q.ended_at IS NULL AND q.runner IS NULL
        ORDER BY q.send_by LIMIT 500 FOR UPDATE SKIP LOCKED);
    INSERT INTO batch_rows (batch, name, key, digest, kind, address, intended_at,
            settled_at, verdict, reason, attempts, seconds)
        SELECT p_batch, q.name, q.key, q.digest, q.kind, q.address, p_now, p_now,
            'not_sent', 'expired', 0, p_now - q.enqueued_at
        FROM queued q WHERE q.name = ANY(names)
        ON CONFLICT (name, batch) DO NOTHING;
    PERFORM end_queued(p_batch, names, p_now);
    -- Kept long enough.
    names := ARRAY(SELECT q.name FROM queued q
        WHERE q.ended_at < p_now - (p->>'keep')::float8
        ORDER BY q.ended_at LIMIT 500 FOR UPDATE SKIP LOCKED);
    DELETE FROM batch_rows WHERE batch = p_batch AND name = ANY(names);
    DELETE FROM queued WHERE name = ANY(names);
    PERFORM forget_sent(p_batch, p_now - (p->>'keep')::float8);
    PERFORM procrastinate_prune_stalled_workers_v1(300);
END $$;

-- Shows procrastinate's own tools who works, and who doesn't any more.
CREATE FUNCTION {schema}.note_worker(p_worker bigint, p_leaves boolean) RETURNS void
LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF p_leaves THEN
        PERFORM procrastinate_unregister_worker_v1(p_worker);
    ELSE
        PERFORM procrastinate_update_heartbeat_v1(p_worker);
    END IF;
END $$;

-- Does what a runner of the queue asks, all or nothing, if it is still taken for alive.
CREATE FUNCTION {schema}.work_on_queue(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    now float8 := extract(epoch FROM clock_timestamp());
    own {schema}.batch_runners;
    answer jsonb := {schema}.work_on_batch(p);
    answers jsonb := '[]';
    op jsonb;
    result jsonb;
BEGIN
    IF answer ? 'gone' THEN
        RETURN answer;
    END IF;
    SELECT * INTO own FROM {schema}.batch_runners WHERE id = (p->>'runner')::bigint;
    IF p ? 'claims' THEN
        answer := answer || jsonb_build_object('claims',
            {schema}.refuse_claims(own, p->'claims', answer->'claims'));
    END IF;
    IF p ? 'outcomes' THEN
        PERFORM {schema}.end_queued(own.batch, ARRAY(
            SELECT (item->>'name')::bigint FROM jsonb_array_elements(p->'outcomes') item
        ), now);
    END IF;
    FOR op IN SELECT jsonb_array_elements(p->'asks') LOOP
        result := 'null';
        CASE op->>'do'
        WHEN 'fetch' THEN
            result := {schema}.fetch_queued(own, op, (op->>'worker')::bigint, now);
        WHEN 'give_back' THEN
            PERFORM {schema}.give_back(own, op, now);
        WHEN 'callbacks' THEN
            result := {schema}.take_callbacks(own.batch, op, now);
        WHEN 'called' THEN
            UPDATE {schema}.queued SET callback = NULL, callback_at = NULL
                WHERE name = (op->>'name')::bigint;
        WHEN 'tend' THEN
            PERFORM {schema}.note_worker((op->>'worker')::bigint, false);
            PERFORM {schema}.tend_queue(own.batch, op, now);
        WHEN 'forget' THEN
            PERFORM {schema}.forget_sent(
                own.batch, now - (op->>'keep')::float8);
        WHEN 'leave' THEN
            PERFORM {schema}.note_worker((op->>'worker')::bigint, true);
        END CASE;
        answers := answers || jsonb_build_array(result);
    END LOOP;
    RETURN answer || jsonb_build_object('asked', answers);
END $$;
