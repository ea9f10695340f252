-- Open handovers, each with who acts in it until when, and who is in them.
-- Times are seconds since 1970 by this server's clock.

CREATE TABLE {schema}.handovers (
    id text PRIMARY KEY,
    pool bigint NOT NULL,
    epoch integer NOT NULL DEFAULT 1,
    until float8 NOT NULL,
    entry jsonb,
    ended float8,
    alarmed boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX handovers_until ON {schema}.handovers (until) WHERE ended IS NULL;
COMMENT ON TABLE {schema}.handovers IS
    'Handovers and their leases; entry has the agent''s address in clear while one is open';
COMMENT ON COLUMN {schema}.handovers.alarmed IS
    'It ended with an alarm, so that a journal that has it may still be recovered';

CREATE TABLE {schema}.engagements (
    who bigint PRIMARY KEY,
    handover text NOT NULL
);
CREATE INDEX engagements_handover ON {schema}.engagements (handover);
COMMENT ON TABLE {schema}.engagements IS
    'Who is in an open handover, and conversations with one; who is one of two keyed hashes';

-- Engages whoever is free.
CREATE FUNCTION {schema}.engage(p_handover text, p_who bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.engagements
        SELECT who, p_handover FROM unnest(p_who) who
        ON CONFLICT DO NOTHING;
END $$;

-- Says whether somebody, by any of their hashes, is in another handover.
CREATE FUNCTION {schema}.is_engaged(
    p_who bigint[], p_handover text DEFAULT ''
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM {schema}.engagements
        WHERE who = ANY(p_who) AND handover <> p_handover);
END $$;

CREATE FUNCTION {schema}.integers(p_list jsonb) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(SELECT jsonb_array_elements_text(p_list)::bigint)
$$;

-- Begins a handover, unless who matters is in another one.
CREATE FUNCTION {schema}.begin_handover(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    agent bigint[] := {schema}.integers(p_op->'agent');
    conversation bigint[] := {schema}.integers(p_op->'conversation');
    refusal text;
BEGIN
    refusal := CASE
        WHEN {schema}.is_engaged(agent) THEN 'agent'
        WHEN p_op->'targets' <> '[]' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(p_op->'targets') target
            WHERE NOT {schema}.is_engaged({schema}.integers(target))) THEN 'to'
        WHEN {schema}.is_engaged(conversation) THEN 'conference_uuid' END;
    IF refusal IS NOT NULL THEN
        RETURN jsonb_build_object('refusal', refusal);
    END IF;
    INSERT INTO {schema}.handovers (id, pool, until, entry) VALUES (
        p_op->>'id', (p_op->>'pool')::bigint, p_now + (p_op->>'lease')::float8,
        p_op->'entry') ON CONFLICT DO NOTHING;
    IF FOUND THEN  -- else it has ended meanwhile
        PERFORM {schema}.engage(p_op->>'id', agent || conversation);
    END IF;
    RETURN '{"refusal": null}';
END $$;

-- Engages a target for a handover that its pool still holds.
CREATE FUNCTION {schema}.engage_target(p_op jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    target bigint[] := {schema}.integers(p_op->'who');
BEGIN
    IF {schema}.is_engaged(target, p_op->>'id') THEN
        RETURN '{"engaged": false}';
    END IF;
    PERFORM FROM {schema}.handovers
        WHERE id = p_op->>'id' AND pool = (p_op->>'pool')::bigint AND ended IS NULL;
    IF FOUND THEN
        PERFORM {schema}.engage(p_op->>'id', target);
    END IF;
    RETURN '{"engaged": true}';
END $$;

-- Prolongs the leases of a pool, and returns the handovers that aren't its own any more.
-- One by one: a join would be planned for a table of another size.
CREATE FUNCTION {schema}.prolong(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    one record;
    lost text[] := '{}';
BEGIN
    FOR one IN SELECT key, value::integer FROM jsonb_each_text(p_op->'epochs') LOOP
        UPDATE {schema}.handovers SET until = p_now + (p_op->>'lease')::float8
            WHERE id = one.key AND epoch = one.value AND ended IS NULL
                AND pool = (p_op->>'pool')::bigint;
        IF NOT FOUND THEN
            lost := lost || one.key;
        END IF;
    END LOOP;
    RETURN jsonb_build_object('lost', lost);
END $$;

-- Engages again whom handovers of this pool had engaged before its connection was lost,
-- and nobody else for them.
CREATE FUNCTION {schema}.restore_engagements(p_op jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    held record;
    engaged bigint[];
BEGIN
    FOR held IN SELECT key, value FROM jsonb_each(p_op->'held') LOOP
        PERFORM FROM {schema}.handovers
            WHERE id = held.key AND pool = (p_op->>'pool')::bigint AND ended IS NULL
                AND epoch = (held.value->>'epoch')::integer;
        IF FOUND THEN
            engaged := {schema}.integers(held.value->'engaged');
            DELETE FROM {schema}.engagements
                WHERE handover = held.key AND who <> ALL(engaged);
            PERFORM {schema}.engage(held.key, engaged);
        END IF;
    END LOOP;
END $$;

-- Claims one handover: again, by its epoch, or, without, from a process that has died.
-- What is in no row, or in an older one, was lost by a crash of the server. Nobody may
-- act where the agent is in a newer handover.
CREATE FUNCTION {schema}.claim(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    h {schema}.handovers;
    its_pool bigint := (p_op->>'pool')::bigint;
    its_epoch integer := (p_op->>'epoch')::integer;
    is_new boolean := its_epoch IS NULL;
BEGIN
    SELECT * INTO h FROM {schema}.handovers WHERE id = p_op->>'id';
    IF NOT FOUND THEN
        its_epoch := coalesce(its_epoch, 2);
    ELSIF h.ended IS NOT NULL AND NOT (is_new AND h.alarmed) THEN
        RETURN '{"epoch": null}';
    ELSIF is_new THEN
        IF h.epoch > 1 AND h.until > p_now AND h.ended IS NULL
            AND NOT (h.pool = its_pool AND (p_op->>'again')::boolean)
        THEN
            RETURN '{"epoch": null}';
        END IF;
        its_epoch := h.epoch + 1;
    ELSIF its_epoch < h.epoch OR its_epoch = h.epoch AND h.pool <> its_pool THEN
        RETURN '{"epoch": null}';
    END IF;
    IF {schema}.is_engaged({schema}.integers(p_op->'agent'), p_op->>'id') THEN
        RETURN '{"epoch": null, "engaged": true}';
    END IF;
    INSERT INTO {schema}.handovers AS it (id, pool, epoch, until, entry) VALUES (
        p_op->>'id', its_pool, its_epoch, p_now + (p_op->>'lease')::float8,
        p_op->'entry')
        ON CONFLICT (id) DO UPDATE SET pool = excluded.pool, epoch = excluded.epoch,
            until = excluded.until, entry = excluded.entry, ended = NULL,
            alarmed = false;
    PERFORM {schema}.engage(p_op->>'id', {schema}.integers(p_op->'engaged'));
    RETURN jsonb_build_object('epoch', its_epoch);
END $$;

-- Takes over what has run out, some seconds after its owner knows it. What is its own and
-- has run out was taken over by an answer that was lost.
CREATE FUNCTION {schema}.take_over(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE sql AS $$
    WITH mine AS (
        UPDATE {schema}.handovers h SET
            pool = (p_op->>'pool')::bigint, epoch = h.epoch + 1,
            until = p_now + (p_op->>'lease')::float8
            FROM (
                SELECT id, until FROM {schema}.handovers
                WHERE ended IS NULL AND until < p_now - (p_op->>'grace')::float8
                    AND NOT p_op->'not' ? id
                    AND entry->>'account' IN (
                        SELECT jsonb_array_elements_text(p_op->'accounts'))
                ORDER BY until LIMIT 100) overdue
            WHERE h.id = overdue.id
            RETURNING h.id, h.epoch, h.entry, p_now - overdue.until AS overdue)
    SELECT jsonb_build_object('taken', coalesce(jsonb_agg(to_jsonb(mine)), '[]'))
        FROM mine
$$;

-- Ends a handover, so that nobody takes it over or begins it late. Without an epoch it
-- is one of a process that has died, or claimed by an answer that was lost.
CREATE FUNCTION {schema}.end_handover(p_op jsonb, p_now float8) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    its_epoch integer := (p_op->>'epoch')::integer;
BEGIN
    INSERT INTO {schema}.handovers AS h (id, pool, epoch, until, ended, alarmed)
        VALUES (p_op->>'id', (p_op->>'pool')::bigint, coalesce(its_epoch, 1), p_now,
            p_now, (p_op->>'alarmed')::boolean)
        ON CONFLICT (id) DO UPDATE
            SET ended = p_now, entry = NULL, alarmed = excluded.alarmed
            WHERE h.ended IS NULL AND (h.epoch < excluded.epoch
                OR h.pool = excluded.pool AND h.epoch = coalesce(its_epoch, h.epoch)
                OR its_epoch IS NULL AND h.epoch = 1);
    IF FOUND THEN
        DELETE FROM {schema}.engagements WHERE handover = p_op->>'id';
    END IF;
END $$;

-- Forgets what has ended, and what no pool has taken over for a day.
CREATE FUNCTION {schema}.tidy_handovers(p_now float8) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM {schema}.handovers WHERE id IN (
        SELECT id FROM {schema}.handovers
        WHERE ended < p_now - 86400.0 OR ended IS NULL AND until < p_now - 86400.0
        LIMIT 5000);
    DELETE FROM {schema}.engagements e WHERE NOT EXISTS (
        SELECT FROM {schema}.handovers h WHERE h.id = e.handover AND h.ended IS NULL)
$$;
