-- Rates, pools and dials that all pools of one namespace share.
-- Times are seconds since 1970 by this server's clock.

CREATE UNLOGGED TABLE {schema}.rates (
    name text PRIMARY KEY,
    next_free float8 NOT NULL,
    paused_until float8 NOT NULL DEFAULT '-Infinity',
    is_long boolean NOT NULL DEFAULT false,
    trying_until float8 NOT NULL DEFAULT '-Infinity',
    urgent_next float8 NOT NULL DEFAULT '-Infinity',
    urgent_tried_at float8 NOT NULL DEFAULT 'Infinity',
    urgent_tries integer NOT NULL DEFAULT 0,
    pauses_in_a_row integer NOT NULL DEFAULT 0,
    pace float8 NOT NULL DEFAULT 1.0,
    pace_set_at float8 NOT NULL DEFAULT '-Infinity',
    overdrafts float8[] NOT NULL DEFAULT '{}',
    streamed float8[] NOT NULL DEFAULT '{}',
    set_at float8 NOT NULL DEFAULT '-Infinity'
) WITH (fillfactor = 50);
COMMENT ON TABLE {schema}.rates IS
    'When the next request of an account may leave; rows that are lost make a pause of a second';

CREATE TABLE {schema}.pools (
    id bigint PRIMARY KEY,
    seen float8 NOT NULL
);
COMMENT ON TABLE {schema}.pools IS
    'Who shares this namespace; each also holds the advisory lock of its id while it lives';

CREATE TABLE {schema}.dials (
    key bigint NOT NULL,
    id bigint NOT NULL,
    pool bigint NOT NULL,
    agent bigint NOT NULL,
    called bigint NOT NULL,
    phone bigint NOT NULL DEFAULT 0,
    begun float8 NOT NULL,
    until float8 NOT NULL DEFAULT 'Infinity',
    has_left boolean NOT NULL DEFAULT false,
    joined boolean NOT NULL DEFAULT false,
    ended boolean NOT NULL DEFAULT false,
    outcome jsonb,
    PRIMARY KEY (key, id)
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 2000
);
CREATE INDEX dials_agent ON {schema}.dials (agent);
CREATE INDEX dials_called ON {schema}.dials (called);
CREATE INDEX dials_phone ON {schema}.dials (phone);
COMMENT ON TABLE {schema}.dials IS
    'Dials under way or just ended; key, agent, called and phone are keyed hashes';

CREATE TABLE {schema}.known (
    party bigint NOT NULL,
    pool bigint NOT NULL,
    until float8 NOT NULL,
    PRIMARY KEY (party, pool)
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 2000
);
COMMENT ON TABLE {schema}.known IS
    'Pools that may repeat an action on a party, and so have to hear of dials; keyed hashes';

-- The row of a rate, made if it is not there: beginning a second from now, as whoever
-- lost it may have used the quota until now.
CREATE FUNCTION {schema}.rate(p_name text, p_now float8) RETURNS {schema}.rates
LANGUAGE plpgsql AS $$
DECLARE
    r {schema}.rates;
BEGIN
    SELECT * INTO r FROM {schema}.rates WHERE name = p_name FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO {schema}.rates (name, next_free) VALUES (p_name, p_now + 1.0)
            ON CONFLICT DO NOTHING;
        SELECT * INTO r FROM {schema}.rates WHERE name = p_name FOR UPDATE;
    END IF;
    IF r.set_at > p_now + 1.0 THEN  -- the clock was set back, or another server took over
        r.next_free := r.next_free - (r.set_at - p_now);
        r.paused_until := r.paused_until - (r.set_at - p_now);
        r.trying_until := r.trying_until - (r.set_at - p_now);
        r.urgent_next := r.urgent_next - (r.set_at - p_now);
        r.urgent_tried_at := r.urgent_tried_at - (r.set_at - p_now);
        r.pace_set_at := r.pace_set_at - (r.set_at - p_now);
        r.overdrafts := '{}';
        r.streamed := '{}';
    END IF;
    r.set_at := p_now;
    r.pace := CASE WHEN {schema}.pace(r, p_now) < 1.0 THEN r.pace ELSE 1.0 END;
    RETURN r;
END $$;

CREATE FUNCTION {schema}.pace(r {schema}.rates, p_now float8) RETURNS float8
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN r.pace = 1.0 THEN 1.0
        ELSE least(r.pace + greatest(p_now - r.pace_set_at, 0.0) / 60.0, 1.0) END
$$;

-- Books `p_count` slots where nothing has been refused lately, which is nearly always,
-- and where none is to be taken from a stream. Streams have a statement of their own, as
-- to begin its subqueries takes as long as all the rest.
CREATE FUNCTION {schema}.book_calmly(
    p_name text, p_now float8, p_interval float8, p_count integer, p_late float8,
    p_streamed boolean
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    free float8;
    slots float8[] := '{}';
BEGIN
    IF p_streamed THEN
        UPDATE {schema}.rates
            SET next_free = greatest(next_free, p_now - p_late) + p_count * p_interval,
                streamed = ARRAY(SELECT s FROM unnest(streamed) s WHERE s > p_now)
                    || ARRAY(
                        SELECT greatest(next_free, p_now - p_late) + n * p_interval
                        FROM generate_series(0, p_count - 1) n),
                set_at = p_now
            WHERE name = p_name AND pace = 1.0 AND pauses_in_a_row = 0 AND NOT is_long
                AND paused_until <= p_now - p_late AND trying_until <= p_now - p_late
                AND urgent_tried_at = 'Infinity' AND set_at <= p_now + 1.0
            RETURNING streamed[cardinality(streamed) - p_count + 1:] INTO slots;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    ELSE
        UPDATE {schema}.rates
            SET next_free = greatest(next_free, p_now - p_late) + p_count * p_interval,
                set_at = p_now
            WHERE name = p_name AND pace = 1.0 AND pauses_in_a_row = 0 AND NOT is_long
                AND paused_until <= p_now - p_late AND trying_until <= p_now - p_late
                AND urgent_tried_at = 'Infinity' AND set_at <= p_now + 1.0
                AND (cardinality(streamed) = 0
                    OR streamed[cardinality(streamed)] <= p_now + 0.05)
            RETURNING next_free INTO free;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        FOR back IN REVERSE p_count..1 LOOP
            slots := slots || (free - p_interval * back);
        END LOOP;
    END IF;
    RETURN jsonb_build_object(
        'pace', 1.0, 'unsettled', false, 'paused_for', NULL, 'slots', slots);
END $$;

-- Books `p_count` slots. What is awaited takes those of streams, in whatever pool, if it
-- can still be told. What is urgent leaves at once, before all that is booked; `p_overdraft`
-- such overdrafts at most are unpaid, each until the slot that a stream gives for it, or
-- else until what it pushed back has had its own.
CREATE FUNCTION {schema}.book(
    INOUT r {schema}.rates, p_now float8, p_interval float8, p_count integer,
    p_urgent boolean, p_late float8, p_streamed boolean, p_overdraft integer,
    OUT slots float8[], OUT taken float8[]
) LANGUAGE plpgsql AS $$
DECLARE
    step float8;
    slot float8;
    given float8;
BEGIN
    slots := '{}';
    taken := '{}';
    FOR _ IN 1..p_count LOOP
        step := p_interval / {schema}.pace(r, p_now);
        slot := greatest(r.paused_until, r.trying_until);
        given := NULL;
        IF NOT p_streamed THEN
            given := (SELECT min(s) FROM unnest(r.streamed) s
                WHERE s > greatest(p_now + 0.05, slot) AND s < r.next_free);
        END IF;
        IF NOT p_urgent THEN
            slot := coalesce(given, greatest(r.next_free, slot, p_now - p_late));
        ELSIF greatest(r.urgent_next, p_now) < slot THEN
            slot := greatest(r.urgent_next, p_now);  -- all that is booked comes after it
            given := NULL;
        ELSE
            slot := greatest(slot, p_now);
            r.overdrafts := ARRAY(
                SELECT paid FROM unnest(r.overdrafts) paid WHERE paid > p_now ORDER BY 1);
            IF r.next_free > slot THEN
                IF cardinality(r.overdrafts) >= p_overdraft THEN
                    slot := greatest(
                        slot, least(coalesce(r.overdrafts[1], r.next_free), given));
                END IF;
                r.overdrafts := r.overdrafts
                    || coalesce(given, greatest(r.next_free, slot) + step);
            END IF;
        END IF;
        IF given IS NULL THEN
            step := p_interval / {schema}.pace(r, slot);
            r.next_free := greatest(r.next_free, slot) + step;
        ELSE
            r.streamed := array_remove(r.streamed, given);
            taken := taken || given;
        END IF;
        IF p_streamed THEN
            r.streamed := ARRAY(SELECT s FROM unnest(r.streamed) s WHERE s > p_now) || slot;
        END IF;
        IF slot < r.paused_until OR slot < r.trying_until THEN
            r.urgent_tried_at := least(r.urgent_tried_at, slot);
            r.urgent_next := slot + 2.0;
        ELSIF r.is_long THEN
            r.trying_until := slot + 2.0;
            r.is_long := false;
        END IF;
        slots := slots || slot;
    END LOOP;
END $$;

-- Pauses after a 429 to a request that left at `p_sent`, and lowers the pace.
CREATE FUNCTION {schema}.throttled(
    INOUT r {schema}.rates, p_now float8, p_sent float8, p_retry_after float8,
    p_longest_growth float8, OUT begun boolean
) LANGUAGE plpgsql AS $$
DECLARE
    pause float8;
BEGIN
    begun := p_sent >= r.paused_until;
    IF begun THEN
        r.pace := greatest({schema}.pace(r, p_now) * 0.8, 0.05);
        r.pace_set_at := p_now;
        pause := coalesce(
            p_retry_after,
            least(0.25 * 2.0 ^ least(r.pauses_in_a_row, 10), p_longest_growth)
        );
        r.is_long := pause > 60.0;
        r.pauses_in_a_row := r.pauses_in_a_row + 1;
        r.paused_until := p_now + least(pause, 60.0);
        r.trying_until := '-Infinity';
        r.streamed := '{}';
        r.urgent_tried_at := 'Infinity';
        r.urgent_tries := 0;
    END IF;
    IF begun OR p_sent >= r.urgent_tried_at THEN
        r.urgent_next := p_now + least(0.25 * 2.0 ^ least(r.urgent_tries, 10), 2.0);
        r.urgent_tries := r.urgent_tries + 1;
    END IF;
END $$;

-- Notes another answer, which ends what the last pause began.
CREATE FUNCTION {schema}.answered(
    INOUT r {schema}.rates, p_sent float8
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_sent >= r.urgent_tried_at THEN
        r.urgent_next := '-Infinity';
        r.urgent_tried_at := 'Infinity';
        r.urgent_tries := 0;
    ELSIF r.pauses_in_a_row > 0 AND p_sent >= r.paused_until THEN
        r.pauses_in_a_row := 0;
        r.is_long := false;
        r.trying_until := '-Infinity';
    END IF;
END $$;

CREATE FUNCTION {schema}.store(r {schema}.rates) RETURNS void
LANGUAGE sql AS $$
    UPDATE {schema}.rates SET
        next_free = r.next_free, paused_until = r.paused_until, is_long = r.is_long,
        trying_until = r.trying_until, urgent_next = r.urgent_next,
        urgent_tried_at = r.urgent_tried_at, urgent_tries = r.urgent_tries,
        pauses_in_a_row = r.pauses_in_a_row, pace = r.pace, pace_set_at = r.pace_set_at,
        overdrafts = r.overdrafts, streamed = r.streamed, set_at = r.set_at
    WHERE name = r.name
$$;

-- What pools are told of a rate.
CREATE FUNCTION {schema}.told(r {schema}.rates, p_now float8) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'pace', {schema}.pace(r, p_now),
        'unsettled', r.pauses_in_a_row > 0 OR r.urgent_tried_at < 'Infinity',
        'paused_for', CASE WHEN r.paused_until > p_now THEN r.paused_until - p_now END)
$$;

CREATE FUNCTION {schema}.lives(p_pool bigint) RETURNS boolean
LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = ((p_pool >> 32) & 4294967295)::oid
            AND objid = (p_pool & 4294967295)::oid)
$$;

-- Registers a dial, unless an equal one is under way or was accepted or left in doubt
-- within `memory` seconds, and `once` is asked for: then it is the one to join. One
-- whose pool has died was in doubt from when that was last seen.
CREATE FUNCTION {schema}.dial(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    equal {schema}.dials;
    p_key bigint := (p_op->>'key')::bigint;
    memory float8 := (p_op->>'memory')::float8;
BEGIN
    IF (p_op->>'once')::boolean THEN
        PERFORM pg_advisory_xact_lock(p_key);
        IF EXISTS (SELECT FROM {schema}.dials WHERE key = p_key AND until > p_now) THEN
            SELECT d.* INTO equal FROM {schema}.dials d
                LEFT JOIN {schema}.pools p ON p.id = d.pool
                WHERE d.key = p_key AND d.until > p_now
                    -- What ends later than that, ended before the clock was set back.
                    AND (d.until <= p_now + memory + 1.0 OR d.until = 'Infinity')
                    AND (d.until < 'Infinity' OR coalesce(p.seen, d.begun) + memory > p_now
                        OR p.seen > p_now - 6.0 AND {schema}.lives(d.pool))
                ORDER BY d.until, d.has_left DESC, d.begun LIMIT 1;
            IF FOUND THEN
                UPDATE {schema}.dials SET joined = true
                    WHERE key = p_key AND id = equal.id;
                RETURN jsonb_build_object('join', equal.id::text, 'outcome', equal.outcome);
            END IF;
        END IF;
    END IF;
    INSERT INTO {schema}.dials (key, id, pool, agent, called, phone, begun) VALUES (
        p_key, (p_op->>'id')::bigint, (p_op->>'pool')::bigint,
        (p_op->>'agent')::bigint, (p_op->>'called')::bigint,
        (p_op->>'phone')::bigint, p_now);
    RETURN '{}';
END $$;

-- Lets a pool hear of dials of a party, on which it may repeat an action.
CREATE FUNCTION {schema}.know(p_op jsonb, p_now float8) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO {schema}.known AS k VALUES (
        (p_op->>'party')::bigint, (p_op->>'pool')::bigint,
        p_now + (p_op->>'known_for')::float8)
        ON CONFLICT (party, pool) DO UPDATE
            SET until = greatest(k.until, excluded.until)
$$;

-- What a joiner learns of the dial it waits for. One of a pool that isn't heard of, as
-- it is cut off, may have left.
CREATE FUNCTION {schema}.ask(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT coalesce(
        (SELECT jsonb_build_object(
            'outcome', d.outcome, 'ended', d.ended,
            'has_left', d.has_left OR coalesce(p.seen, d.begun) < p_now - 2.5,
            'lives', d.ended
                OR coalesce(p.seen, d.begun) > p_now - 6.0 AND {schema}.lives(d.pool))
        FROM {schema}.dials d LEFT JOIN {schema}.pools p ON p.id = d.pool
        WHERE d.key = (p_op->>'key')::bigint AND d.id = (p_op->>'id')::bigint),
        '{"outcome": null, "ended": false, "has_left": true, "lives": false}')
$$;

-- Whether another pool's dial can have rung a phone between so many seconds ago and so
-- many, as far as rows are kept. One whose equal this pool has joined is its own.
CREATE FUNCTION {schema}.others_dialled(p_op jsonb, p_now float8) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_build_object('others', count(*) > CASE
        WHEN (p_op->>'joined')::boolean AND bool_or(key = (p_op->>'equal')::bigint)
        THEN 1 ELSE 0 END)
    FROM {schema}.dials
    WHERE phone = (p_op->>'phone')::bigint AND pool <> (p_op->>'pool')::bigint
        AND begun <= p_now - (p_op->>'until')::float8
        AND until >= p_now - (p_op->>'since')::float8
        AND (NOT ended OR coalesce(outcome->>'verdict', '') IN ('accepted', 'in_doubt'))
$$;

-- Books slots, but for those dials of this block that have joined another pool's.
CREATE FUNCTION {schema}.book_slots(
    p_op jsonb, p_now float8, p_joined integer
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    step float8 := (p_op->>'interval')::float8;
    late float8 := coalesce((p_op->>'late')::float8, 0.0);
    urgent boolean := (p_op->>'urgent')::boolean;
    of_stream boolean := coalesce((p_op->>'streamed')::boolean, false);
    overdraft integer := coalesce((p_op->>'overdraft')::integer, 0);
    number integer := (p_op->>'count')::integer
        - least(p_joined, coalesce((p_op->>'coming')::integer, 0));
    answer jsonb;
    r {schema}.rates;
    made record;
BEGIN
    IF NOT urgent THEN
        answer := {schema}.book_calmly(
            p_op->>'rate', p_now, step, number, late, of_stream);
    END IF;
    IF answer IS NULL THEN
        r := {schema}.rate(p_op->>'rate', p_now);
        SELECT * INTO made
            FROM {schema}.book(r, p_now, step, number, urgent, late, of_stream, overdraft);
        PERFORM {schema}.store(made.r);
        answer := {schema}.told(made.r, p_now)
            || jsonb_build_object('slots', made.slots, 'taken', made.taken);
    END IF;
    RETURN answer;
END $$;

-- Does what pools ask, in order, in one transaction. `notices` go to all of them.
-- Whoever changes dials locks their keys first, in order, so that none waits for another
-- that waits for it.
CREATE FUNCTION {schema}.work(p_ops jsonb, p_channel text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    begun float8 := extract(epoch FROM clock_timestamp());
    p_now float8;
    op jsonb;
    answer jsonb;
    notices jsonb := '[]';
    answers jsonb := '[]';
    r {schema}.rates;
    made record;
    was_joined boolean;
    joins integer := 0;
    deleted integer;
    keys bigint[];
    key_of_one bigint;
BEGIN
    -- What a crash of the server takes is the last moment's; no dial waits for a disk.
    -- And none waits for plans, which take longer than what they are made for.
    PERFORM set_config('synchronous_commit', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true);
    FOR op IN SELECT jsonb_array_elements(p_ops) LOOP
        p_now := extract(epoch FROM clock_timestamp());
        answer := '{}';
        CASE op->>'do'
        WHEN 'book' THEN
            answer := {schema}.book_slots(op, p_now, joins);
            IF answer->'taken' <> '[]' THEN
                notices := notices || jsonb_build_array(jsonb_build_array(
                    'taken', op->>'rate', answer->'taken'));
            END IF;
        WHEN 'look' THEN
            r := {schema}.rate(op->>'rate', p_now);
            PERFORM {schema}.store(r);
            answer := {schema}.told(r, p_now);
        WHEN 'skip' THEN
            r := {schema}.rate(op->>'rate', p_now);
            r.next_free := greatest(r.next_free, p_now)
                + (op->>'interval')::float8 / {schema}.pace(r, p_now);
            PERFORM {schema}.store(r);
        WHEN 'throttled' THEN
            r := {schema}.rate(op->>'rate', p_now);
            SELECT * INTO made FROM {schema}.throttled(
                r, p_now, (op->>'sent')::float8, (op->>'retry_after')::float8,
                (op->>'longest_growth')::float8);
            PERFORM {schema}.store(made.r);
            answer := {schema}.told(made.r, p_now);
            IF made.begun THEN
                notices := notices || jsonb_build_array(jsonb_build_array(
                    'paused', op->>'rate', answer));
            END IF;
        WHEN 'answered' THEN
            r := {schema}.rate(op->>'rate', p_now);
            r := {schema}.answered(r, (op->>'sent')::float8);
            PERFORM {schema}.store(r);
            answer := {schema}.told(r, p_now);
        WHEN 'dial' THEN
            answer := {schema}.dial(op, p_now);
            IF answer <> '{}' THEN
                joins := joins + 1;
            ELSIF EXISTS (
                SELECT FROM {schema}.known
                WHERE party = (op->>'agent')::bigint AND until > p_now
                    AND pool <> (op->>'pool')::bigint)
            THEN  -- seldom; and a notice wakes every pool, its own as well
                notices := notices || jsonb_build_array(jsonb_build_array(
                    'begun', op->'agent', op->>'action', false, op->'pool'));
            END IF;
        WHEN 'left' THEN
            PERFORM pg_advisory_xact_lock((op->>'key')::bigint);
            UPDATE {schema}.dials SET has_left = true
                WHERE key = (op->>'key')::bigint AND id = (op->>'id')::bigint;
        WHEN 'finish' THEN
            PERFORM pg_advisory_xact_lock((op->>'key')::bigint);
            UPDATE {schema}.dials SET outcome = op->'outcome', ended = true,
                    until = least(until, p_now + (op->>'memory')::float8)
                WHERE key = (op->>'key')::bigint AND id = (op->>'id')::bigint
                RETURNING joined INTO was_joined;
            IF NOT FOUND THEN
                -- What registers it may still come, by a connection that was given up:
                -- then it finds its end here, and fails.
                INSERT INTO {schema}.dials
                    (key, id, pool, agent, called, begun, until, ended, outcome)
                    VALUES (
                        (op->>'key')::bigint, (op->>'id')::bigint, 0, 0, 0, p_now,
                        p_now + (op->>'memory')::float8, true, op->'outcome')
                    ON CONFLICT DO NOTHING;
            END IF;
            IF was_joined THEN
                notices := notices || jsonb_build_array(jsonb_build_array(
                    'finished', op->>'id'));
            END IF;
        WHEN 'ask' THEN
            answer := {schema}.ask(op, p_now);
            IF (op->>'soon')::boolean THEN
                notices := notices || jsonb_build_array(jsonb_build_array(
                    'asked', op->>'id'));
            END IF;
        WHEN 'others_dialled' THEN
            answer := {schema}.others_dialled(op, p_now);
        WHEN 'note' THEN
            IF (op->>'ends_dials')::boolean THEN
                keys := ARRAY(
                    SELECT DISTINCT key FROM {schema}.dials
                    WHERE until > p_now AND (op->>'party')::bigint IN (agent, called)
                    ORDER BY key);
                FOREACH key_of_one IN ARRAY keys LOOP
                    PERFORM pg_advisory_xact_lock(key_of_one);
                END LOOP;
                UPDATE {schema}.dials SET until = p_now
                    WHERE key = ANY(keys) AND until > p_now
                        AND (op->>'party')::bigint IN (agent, called);
            END IF;
            IF op ? 'known_for' THEN
                PERFORM {schema}.know(op, p_now);
            END IF;
            notices := notices || jsonb_build_array(jsonb_build_array(
                'begun', op->'party', op->>'action', op->'ends_dials', op->'pool'));
        WHEN 'know' THEN
            PERFORM {schema}.know(op, p_now);
        WHEN 'tell_calls' THEN
            notices := notices || {schema}.tell_calls(op, p_now);
        WHEN 'read_calls' THEN
            answer := {schema}.read_calls(op, p_now);
        WHEN 'begin_handover', 'engage', 'release', 'prolong', 'claim', 'take_over',
            'end_handover', 'restore' THEN
            -- One lock for them all, which sorts among those of dials by the same number.
            PERFORM pg_advisory_xact_lock((op->>'key')::bigint);
            CASE op->>'do'
            WHEN 'begin_handover' THEN
                answer := {schema}.begin_handover(op, p_now);
            WHEN 'engage' THEN
                answer := {schema}.engage_target(op);
            WHEN 'release' THEN
                DELETE FROM {schema}.engagements
                    WHERE who = ANY({schema}.integers(op->'who'))
                        AND handover = op->>'id';
            WHEN 'prolong' THEN
                answer := {schema}.prolong(op, p_now);
            WHEN 'claim' THEN
                answer := {schema}.claim(op, p_now);
            WHEN 'take_over' THEN
                answer := {schema}.take_over(op, p_now);
            WHEN 'end_handover' THEN
                PERFORM {schema}.end_handover(op, p_now);
            WHEN 'restore' THEN
                PERFORM {schema}.restore_engagements(op);
            END CASE;
        WHEN 'seen' THEN
            INSERT INTO {schema}.pools VALUES ((op->>'pool')::bigint, p_now)
                ON CONFLICT (id) DO UPDATE SET seen = p_now;
            -- One that is cut off keeps its lock, as the server hears nothing of it; one
            -- that died doesn't, or comes again at once. Who goes on by itself and can
            -- still say so was heard: `alone` has when, and its row is older. Who was seen
            -- later than now has not been since the clock was set back.
            answer := (SELECT jsonb_build_object(
                    'live', count(*) FILTER (WHERE NOT is_away),
                    'lost', count(*) FILTER (WHERE is_away
                        AND (seen BETWEEN p_now - 6.0 AND p_now OR {schema}.lives(id))))
                FROM (
                    SELECT id, seen, seen <= p_now - 3.0 OR seen > p_now + 1.0
                        OR seen <= coalesce((op->'alone'->>id::text)::float8, 0.0) AS is_away
                    FROM {schema}.pools WHERE seen > p_now - 60.0) AS known);
        WHEN 'tidy' THEN
            DELETE FROM {schema}.pools WHERE seen < p_now - 3600.0;
            PERFORM pg_advisory_xact_lock((op->>'key')::bigint);
            PERFORM {schema}.tidy_handovers(p_now);
            DELETE FROM {schema}.dials WHERE (key, id) IN (
                SELECT key, id FROM {schema}.dials
                WHERE until < p_now - 60.0 LIMIT 2000 FOR UPDATE SKIP LOCKED);
            GET DIAGNOSTICS deleted = ROW_COUNT;
            answer := jsonb_build_object('more', deleted = 2000);
            DELETE FROM {schema}.known WHERE (party, pool) IN (
                SELECT party, pool FROM {schema}.known
                WHERE until < p_now LIMIT 2000 FOR UPDATE SKIP LOCKED);
            DELETE FROM {schema}.dials WHERE (key, id) IN (
                SELECT d.key, d.id FROM {schema}.dials d
                WHERE d.until = 'Infinity' AND d.begun < p_now - 120.0
                    AND NOT EXISTS (
                        SELECT FROM {schema}.pools p
                        WHERE p.id = d.pool AND p.seen > p_now - 120.0)
                LIMIT 1000 FOR UPDATE SKIP LOCKED);
            PERFORM {schema}.tidy_calls(p_now);
            PERFORM {schema}.tidy_batches(p_now);
        WHEN 'bye' THEN
            DELETE FROM {schema}.pools WHERE id = (op->>'pool')::bigint;
        END CASE;
        answers := answers || jsonb_build_array(answer);
    END LOOP;
    IF notices <> '[]' THEN
        PERFORM {schema}.notify(p_channel, notices);
    END IF;
    RETURN jsonb_build_object(
        'begun', begun, 'ended', extract(epoch FROM clock_timestamp()),
        'answers', answers);
END $$;

-- A notice holds 8,000 bytes at most.
CREATE FUNCTION {schema}.notify(p_channel text, p_notices jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    notice jsonb;
    part jsonb := '[]';
BEGIN
    FOR notice IN SELECT jsonb_array_elements(p_notices) LOOP
        IF length(part::text) + length(notice::text) > 7000 THEN
            PERFORM pg_notify(p_channel, part::text);
            part := '[]';
        END IF;
        part := part || jsonb_build_array(notice);
    END LOOP;
    PERFORM pg_notify(p_channel, part::text);
END $$;
