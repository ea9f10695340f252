-- Open handovers, each with who acts in it until when, and who is in them.
-- Times are seconds since 1970 by this server's clock.

CREATE TABLE {schema}.handovers (
    id text PRIMARY KEY,
    pool bigint NOT NULL,
    epoch integer NOT NULL DEFAULT 1,
    until float8 NOT NULL,
    entry jsonb,
    ended float8
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX handovers_until ON {schema}.handovers (until) WHERE ended IS NULL;
COMMENT ON TABLE {schema}.handovers IS
    'Handovers and their leases; entry has the agent''s address in clear while one is open';

CREATE TABLE {schema}.engagements (
    who bigint PRIMARY KEY,
    handover text NOT NULL
);
CREATE INDEX engagements_handover ON {schema}.engagements (handover);
COMMENT ON TABLE {schema}.engagements IS
    'Who is in an open handover, and conversations with one; who is a keyed hash';

-- Engages whoever is free, and returns who was not.
CREATE FUNCTION {schema}.engage(p_handover text, p_who bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.engagements
        SELECT who, p_handover FROM unnest(p_who) who
        ON CONFLICT DO NOTHING;
    RETURN ARRAY(
        SELECT who FROM {schema}.engagements
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
    targets bigint[] := {schema}.integers(p_op->'targets');
    engaged bigint[];
    refusal text;
BEGIN
    engaged := ARRAY(
        SELECT who FROM {schema}.engagements
        WHERE who = ANY(agent || conversation || targets));
    refusal := CASE
        WHEN agent && engaged THEN 'agent'
        WHEN targets <> '{}' AND targets <@ engaged THEN 'to'
        WHEN conversation && engaged THEN 'conference_uuid' END;
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
BEGIN
    PERFORM FROM {schema}.handovers
        WHERE id = p_op->>'id' AND pool = (p_op->>'pool')::bigint AND ended IS NULL;
    RETURN jsonb_build_object('engaged', NOT FOUND OR {schema}.engage(
        p_op->>'id', ARRAY[(p_op->>'who')::bigint]) = '{}');
END $$;

-- Prolongs the leases of a pool, and returns the handovers that are still its own.
CREATE FUNCTION {schema}.prolong(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE sql AS $$
    WITH mine AS (
        UPDATE {schema}.handovers h SET until = p_now + (p_op->>'lease')::float8
            FROM jsonb_each_text(p_op->'epochs') one
            WHERE h.id = one.key AND h.epoch = one.value::integer AND h.ended IS NULL
                AND h.pool = (p_op->>'pool')::bigint
            RETURNING h.id)
    SELECT jsonb_build_object('mine', coalesce(jsonb_agg(id), '[]')) FROM mine
$$;

-- Claims one handover: again, by its epoch, or, without, from a process that has died.
-- What is in no row was begun while the database was away, or lost by a crash of it.
CREATE FUNCTION {schema}.claim(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    h {schema}.handovers;
    its_pool bigint := (p_op->>'pool')::bigint;
    its_epoch integer := (p_op->>'epoch')::integer;
    its_until float8 := p_now + (p_op->>'lease')::float8;
BEGIN
    SELECT * INTO h FROM {schema}.handovers WHERE id = p_op->>'id';
    IF NOT FOUND THEN
        INSERT INTO {schema}.handovers VALUES (
            p_op->>'id', its_pool, coalesce(its_epoch, 2), its_until, p_op->'entry');
        PERFORM {schema}.engage(p_op->>'id', {schema}.integers(p_op->'agent'));
        RETURN jsonb_build_object('epoch', coalesce(its_epoch, 2));
    ELSIF h.ended IS NOT NULL THEN
        RETURN '{"epoch": null}';
    ELSIF its_epoch IS NULL THEN
        IF h.epoch > 1 AND h.until > p_now THEN
            RETURN '{"epoch": null}';
        END IF;
        its_epoch := h.epoch + 1;
    ELSIF h.epoch <> its_epoch OR h.pool <> its_pool THEN
        RETURN '{"epoch": null}';
    END IF;
    UPDATE {schema}.handovers SET pool = its_pool, epoch = its_epoch, until = its_until
        WHERE id = h.id;
    RETURN jsonb_build_object('epoch', its_epoch);
END $$;

-- Takes over what has run out, some seconds after its owner knows it.
CREATE FUNCTION {schema}.take_over(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE sql AS $$
    WITH mine AS (
        UPDATE {schema}.handovers h SET
            pool = (p_op->>'pool')::bigint, epoch = h.epoch + 1,
            until = p_now + (p_op->>'lease')::float8
            FROM (
                SELECT id, until FROM {schema}.handovers
                WHERE ended IS NULL AND until < p_now - (p_op->>'grace')::float8
                    AND pool <> (p_op->>'pool')::bigint
                    AND entry->>'account' IN (
                        SELECT jsonb_array_elements_text(p_op->'accounts'))
                ORDER BY until LIMIT 100) overdue
            WHERE h.id = overdue.id
            RETURNING h.epoch, h.entry, p_now - overdue.until AS overdue)
    SELECT jsonb_build_object('taken', coalesce(jsonb_agg(to_jsonb(mine)), '[]'))
        FROM mine
$$;

-- Ends a handover, so that nobody takes it over or begins it late.
CREATE FUNCTION {schema}.end_handover(p_op jsonb, p_now float8) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.handovers AS h (id, pool, until, ended)
        VALUES (p_op->>'id', (p_op->>'pool')::bigint, p_now, p_now)
        ON CONFLICT (id) DO UPDATE SET ended = p_now, entry = NULL
            WHERE h.pool = excluded.pool AND h.ended IS NULL;
    IF FOUND THEN
        DELETE FROM {schema}.engagements WHERE handover = p_op->>'id';
    END IF;
END $$;

-- Forgets what has ended, and what no pool has taken over for a day.
CREATE FUNCTION {schema}.tidy_handovers(p_now float8) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM {schema}.handovers WHERE id IN (
        SELECT id FROM {schema}.handovers
        WHERE ended < p_now - 3600.0 OR ended IS NULL AND until < p_now - 86400.0
        LIMIT 5000);
    DELETE FROM {schema}.engagements e WHERE NOT EXISTS (
        SELECT FROM {schema}.handovers h WHERE h.id = e.handover AND h.ended IS NULL)
$$;
