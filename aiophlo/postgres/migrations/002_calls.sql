-- What events tell of calls: who is, or just was, in which conversation. A member's call
-- has one row, however many events tell of it. `at` is when an event came, `told` when it
-- was written: later, where the database was away meanwhile.

CREATE TABLE {schema}.calls (
    id text PRIMARY KEY,
    fingerprint text NOT NULL,
    keys jsonb NOT NULL,
    call_uuid text NOT NULL,
    conference_uuid text NOT NULL,
    called_in boolean NOT NULL,
    unanswered text,
    joined_id bigint,
    joined_at float8,
    joined_told float8,
    left_id bigint,
    left_at float8,
    left_told float8
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX calls_joined ON {schema}.calls (joined_told, joined_id);
CREATE INDEX calls_left ON {schema}.calls (left_told, left_id);
COMMENT ON TABLE {schema}.calls IS
    'Who is in which conversation; ids, keys and uuids are keyed hashes';

-- Writes a block of events down, each as [row, id, age, left, unanswered, keys, call_uuid,
-- conference_uuid, called_in], and returns the notices of them. An event may come again,
-- where its pool didn't hear that it was written, and after a later one.
CREATE FUNCTION {schema}.tell_calls(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    event jsonb;
    place bigint;
    came float8;
    p_told float8;
BEGIN
    -- In the order in which all pools lock rows.
    FOR event, place IN
        SELECT e, n FROM jsonb_array_elements(p_op->'events') WITH ORDINALITY AS it (e, n)
        ORDER BY e->>0, n
    LOOP
        p_told := p_now + place * 1e-6;  -- so those of a block are read in their order
        came := p_now - (event->>2)::float8;
        IF (event->>3)::boolean THEN
            INSERT INTO {schema}.calls AS c (
                id, fingerprint, unanswered, keys, call_uuid, conference_uuid, called_in,
                left_id, left_at, left_told)
            VALUES (
                event->>0, p_op->>'fingerprint', event->>4, event->5, event->>6,
                event->>7, (event->>8)::boolean, (event->>1)::bigint, came, p_told)
            ON CONFLICT (id) DO UPDATE SET
                left_id = EXCLUDED.left_id,
                left_at = greatest(c.left_at, came),
                left_told = p_told,
                unanswered = CASE WHEN c.left_at > came
                    THEN coalesce(c.unanswered, EXCLUDED.unanswered)
                    ELSE coalesce(EXCLUDED.unanswered, c.unanswered) END
            WHERE c.left_id IS DISTINCT FROM EXCLUDED.left_id
                AND (c.left_at IS NULL OR c.left_at <= came
                    OR c.unanswered IS NULL AND EXCLUDED.unanswered IS NOT NULL);
        ELSE
            INSERT INTO {schema}.calls AS c (
                id, fingerprint, keys, call_uuid, conference_uuid, called_in,
                joined_id, joined_at, joined_told)
            VALUES (
                event->>0, p_op->>'fingerprint', event->5, event->>6,
                event->>7, (event->>8)::boolean, (event->>1)::bigint, came, p_told)
            ON CONFLICT (id) DO UPDATE SET
                joined_id = EXCLUDED.joined_id, joined_at = came, joined_told = p_told
            WHERE c.joined_id IS DISTINCT FROM EXCLUDED.joined_id
                AND (c.joined_at IS NULL OR c.joined_at <= came);
        END IF;
    END LOOP;
    RETURN (
        SELECT jsonb_agg(
            jsonb_build_array('call', p_op->'fingerprint') || (e - 0) ORDER BY n)
        FROM jsonb_array_elements(p_op->'events') WITH ORDINALITY AS it (e, n));
END $$;

-- Returns a page of what was told after `after`, or in the last `seconds`, or ever; as
-- notices tell it.
CREATE FUNCTION {schema}.read_calls(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    after_told float8 := coalesce(
        (p_op->'after'->>0)::float8, p_now - (p_op->>'seconds')::float8, '-Infinity');
    after_id bigint := coalesce((p_op->'after'->>1)::bigint, 0);
    p_fingerprint text := p_op->>'fingerprint';
    most integer := (p_op->>'most')::integer;
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'events', coalesce(jsonb_agg(jsonb_build_array(
                id, p_now - came, has_left, unanswered, keys, call_uuid, conference_uuid,
                called_in) ORDER BY told, id), '[]'),
            'after', (array_agg(
                jsonb_build_array(told, id) ORDER BY told DESC, id DESC))[1])
        FROM (
            (SELECT joined_told AS told, joined_id AS id, joined_at AS came,
                false AS has_left, NULL AS unanswered, keys, call_uuid, conference_uuid,
                called_in
            FROM {schema}.calls
            WHERE fingerprint = p_fingerprint
                AND (joined_told, joined_id) > (after_told, after_id)
            ORDER BY joined_told, joined_id LIMIT most)
            UNION ALL
            (SELECT left_told, left_id, left_at, true, unanswered, keys, call_uuid,
                conference_uuid, called_in
            FROM {schema}.calls
            WHERE fingerprint = p_fingerprint
                AND (left_told, left_id) > (after_told, after_id)
            ORDER BY left_told, left_id LIMIT most)
            ORDER BY told, id LIMIT most
        ) page);
END $$;

-- Deletes calls that ended some minutes ago, and all that nothing was heard of for a day.
-- One that left before it joined ended all the same, unless it has no id and came back.
CREATE FUNCTION {schema}.tidy_calls(p_now float8) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM {schema}.calls WHERE id IN (
        SELECT id FROM {schema}.calls
        WHERE left_told < p_now - 300.0
            AND (call_uuid <> '' OR joined_at IS NULL OR left_at >= joined_at)
        LIMIT 5000 FOR UPDATE SKIP LOCKED);
    DELETE FROM {schema}.calls WHERE id IN (
        SELECT id FROM {schema}.calls
        WHERE joined_told < p_now - 86400.0
            AND (left_told IS NULL OR left_told < p_now - 86400.0)
        LIMIT 5000 FOR UPDATE SKIP LOCKED);
$$;
