-- Removal of old marks. Most of them lie in a partition of a week, which is emptied as a whole once
-- every mark in it is old enough; the rest is deleted in small batches. Package inbox calls the
-- functions below; relay inbox sweep does it from outside.

-- A block range index: some bytes a megabyte, and next to nothing for who inserts. It tells whether
-- a partition holds a mark that is too young to go, without reading it all; that is asked under a
-- lock.
CREATE INDEX inbox_handled_at_idx ON inbox USING brin (handled_at);

CREATE TABLE inbox_sweeps (
    partition  text        PRIMARY KEY,
    next_block bigint      NOT NULL DEFAULT 0,
    began_at   timestamptz NOT NULL DEFAULT now(),
    due_at     timestamptz     NULL,
    next_at    timestamptz     NULL
);
COMMENT ON TABLE inbox_sweeps IS
    'How far the partitions were searched for old marks. Written by inbox_delete_marks(); may be emptied at any time.';
COMMENT ON COLUMN inbox_sweeps.next_block IS 'Where the search goes on; 0 where the next one begins.';
COMMENT ON COLUMN inbox_sweeps.due_at IS 'When the first of the marks that this search has left will be old enough.';
COMMENT ON COLUMN inbox_sweeps.next_at IS 'When the next search begins; null while one is on.';

-- Who wants the marks of a consumer kept for how long: each topic of each group.
-- inbox_consumers.retention is the longest of them.
CREATE TABLE inbox_retentions (
    consumer   text COLLATE "C" NOT NULL,
    claimant   text COLLATE "C" NOT NULL,
    retention  interval             NULL CHECK (retention > interval '0'),
    claimed_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, claimant)
);
COMMENT ON TABLE inbox_retentions IS 'How long marks are wanted, and by whom. Written by inbox_retain().';
COMMENT ON COLUMN inbox_retentions.claimant IS 'The group and the topic whose messages may come again.';
COMMENT ON COLUMN inbox_retentions.claimed_at IS 'When it was claimed last. Consumers repeat their claims.';

-- The partitions of weeks in their order. Each holds the ids of one week, from Monday to Sunday in
-- UTC, and is named by its Monday.
CREATE FUNCTION inbox_weeks() RETURNS TABLE (partition regclass, lower uuid, upper uuid, ends_at timestamptz)
    LANGUAGE sql STABLE
AS $$
    SELECT c.oid::regclass, bounds[1]::uuid, bounds[2]::uuid,
           to_timestamp(('x' || left(replace(bounds[2], '-', ''), 12))::bit(48)::bigint / 1000.0)
      FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid,
           regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''([0-9a-f-]+)''\) TO \(''([0-9a-f-]+)''\)$') AS bounds
     WHERE inhparent = to_regclass('"{schema}".inbox') AND c.relname ~ '^inbox_\d{8}$' AND bounds IS NOT NULL
     ORDER BY bounds[2]
$$;

-- The consumers that have marks in a partition: one step down the index for each.
CREATE FUNCTION inbox_consumers_in(partition regclass) RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
BEGIN
    RETURN QUERY EXECUTE format('
        WITH RECURSIVE found (consumer) AS (
            (SELECT consumer FROM %1$s ORDER BY consumer LIMIT 1)
            UNION ALL
            SELECT (SELECT m.consumer FROM %1$s m WHERE m.consumer > f.consumer ORDER BY m.consumer LIMIT 1)
              FROM found f WHERE f.consumer IS NOT NULL)
        SELECT consumer::text FROM found WHERE consumer IS NOT NULL', partition);
END
$$;

-- About how many marks each consumer has, by the statistics of Postgres: no mark is counted.
CREATE FUNCTION inbox_estimate() RETURNS TABLE (consumer text, marks bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
AS $$
BEGIN
    RETURN QUERY
    SELECT found.consumer, sum(greatest(c.reltuples, 0) * coalesce((
               SELECT f.share FROM pg_stats s, unnest(s.most_common_vals::text::text[], s.most_common_freqs) AS f (value, share)
                WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'consumer' AND f.value = found.consumer), 0))::bigint
      FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
           "{schema}".inbox_consumers_in(c.oid::regclass) AS found (consumer)
     WHERE inhparent = '"{schema}".inbox'::regclass AND pg_relation_size(c.oid) > 0
     GROUP BY found.consumer;
END
$$;

-- How long a partition keeps its marks as a whole: the longest retention of the consumers that have
-- some in it. Null: forever.
CREATE FUNCTION inbox_retention_of(partition regclass) RETURNS interval
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (SELECT CASE WHEN bool_or(c.retention IS NULL) THEN NULL ELSE coalesce(max(c.retention), '0') END
              FROM "{schema}".inbox_consumers_in(partition) AS found (consumer)
              LEFT JOIN "{schema}".inbox_consumers c ON c.consumer = found.consumer);
END
$$;

-- One at a time: true if no other session removes marks or changes partitions at this moment.
CREATE FUNCTION inbox_try_sweep() RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'what is checked under a lock needs its own snapshot: use READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    -- The caller may be frozen, or cut off, before it commits; what the caller locks keeps every
    -- consumer waiting.
    IF current_setting('idle_in_transaction_session_timeout') = '0' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    END IF;
    RETURN pg_try_advisory_xact_lock(hashtextextended('inbox sweep', '"{schema}".inbox'::regclass::oid::bigint));
END
$$;

-- Keeps the marks of a consumer for as long as retention says, on behalf of each claimant; null is
-- forever. Marks are kept for as long as the longest claim of the consumer says, so that two of
-- one name, with other topics, do not shorten each other's time. What is claimed again replaces the
-- claim. A claim that is not repeated ends once every mark that was written while it was made is
-- older than it asks for; one without an end does not end. A retention that was written to
-- inbox_consumers by hand counts as the claim of ''.
--
-- Returns the claims of others under the same name, with their age: a group that claims for a topic
-- of another one shares its marks.
CREATE FUNCTION inbox_retain(consumer text, retention interval, claimants text[] DEFAULT '{""}')
    RETURNS TABLE (claimant text, age interval)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
#variable_conflict use_column
DECLARE
    longest interval;
BEGIN
    IF coalesce(cardinality(claimants), 0) = 0 THEN
        RAISE EXCEPTION 'inbox_retain: there is no claimant' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The row is locked even if nothing is changed: one at a time, so that each sees the claims
    -- of the others.
    INSERT INTO "{schema}".inbox_consumers AS c (consumer, retention) VALUES (inbox_retain.consumer, inbox_retain.retention)
    ON CONFLICT (consumer) DO UPDATE SET retention = excluded.retention WHERE false;
    IF NOT FOUND THEN
        INSERT INTO "{schema}".inbox_retentions (consumer, claimant, retention)
        SELECT c.consumer, '', c.retention FROM "{schema}".inbox_consumers c WHERE c.consumer = inbox_retain.consumer
           AND NOT EXISTS (SELECT FROM "{schema}".inbox_retentions r WHERE r.consumer = inbox_retain.consumer);
    END IF;
    INSERT INTO "{schema}".inbox_retentions (consumer, claimant, retention)
    SELECT DISTINCT inbox_retain.consumer, coalesce(claim, ''), inbox_retain.retention FROM unnest(claimants) AS claim
    ON CONFLICT (consumer, claimant) DO UPDATE SET retention = excluded.retention, claimed_at = excluded.claimed_at;
    DELETE FROM "{schema}".inbox_retentions r WHERE r.consumer = inbox_retain.consumer AND r.claimed_at < now() - r.retention;
    SELECT CASE WHEN bool_or(r.retention IS NULL) THEN NULL ELSE max(r.retention) END INTO longest
      FROM "{schema}".inbox_retentions r WHERE r.consumer = inbox_retain.consumer;
    UPDATE "{schema}".inbox_consumers c SET retention = longest, changed_at = now()
     WHERE c.consumer = inbox_retain.consumer AND c.retention IS DISTINCT FROM longest;
    IF FOUND THEN
        UPDATE "{schema}".inbox_sweeps SET next_at = NULL; -- what is due when was said by another retention
    END IF;
    RETURN QUERY SELECT r.claimant, now() - r.claimed_at FROM "{schema}".inbox_retentions r
     WHERE r.consumer = inbox_retain.consumer AND r.claimant <> ALL (claimants) AND r.claimant <> '';
END
$$;

-- Adds weeks up to one year from now, unless so many lie ahead; returns how many were added. Null:
-- inbox_ahead has more blocks than most_blocks, and what belongs into new weeks would have to move
-- while all sessions wait. Nothing is lost by that: what comes after the last week goes to
-- inbox_ahead, is unique there, and is deleted in batches.
--
-- The lock keeps consumers out for a moment, since the range of inbox_ahead is cut; they wait no
-- longer than lock_timeout allows.
CREATE FUNCTION inbox_add_weeks(ahead int DEFAULT 26, most_blocks bigint DEFAULT 8192) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
AS $$
DECLARE
    home   text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '"{schema}".inbox'::regclass);
    monday timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    week   constant interval := interval '168 hours';
    bound  uuid := (SELECT substring(pg_get_expr(relpartbound, oid) FROM '\(''([0-9a-f-]+)''\) TO')::uuid
                      FROM pg_class WHERE oid = '"{schema}".inbox_ahead'::regclass);
    first  timestamptz := to_timestamp(('x' || left(replace(bound::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
    last   timestamptz := monday + 52 * week;
    starts timestamptz[];
    part   name;
    other  text;
    i      int;
BEGIN
    IF ahead IS NULL OR ahead NOT BETWEEN 1 AND 52 THEN
        RAISE EXCEPTION 'inbox_add_weeks: ahead must be between 1 and 52' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT "{schema}".inbox_try_sweep() OR first > monday + ahead * week THEN
        RETURN 0;
    END IF;
    IF pg_relation_size('"{schema}".inbox_ahead') / current_setting('block_size')::bigint > most_blocks THEN
        RETURN NULL;
    END IF;
    starts := ARRAY(SELECT generate_series(first, last, week));
    FOR i IN 1 .. cardinality(starts) LOOP
        part := to_char(starts[i] AT TIME ZONE 'UTC', '"inbox_"YYYYMMDD');
        EXECUTE format('CREATE TABLE %1$s.%2$I (LIKE %1$s.inbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE)',
                       home, part);
        -- Default privileges would give it to others; marks are read and written through inbox as a
        -- whole.
        FOR other IN SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
                       FROM pg_class, aclexplode(relacl) WHERE oid = format('%s.%I', home, part)::regclass AND grantee <> relowner LOOP
            EXECUTE format('REVOKE ALL ON %s.%I FROM %s', home, part, other);
        END LOOP;
    END LOOP;
    LOCK TABLE ONLY "{schema}".inbox IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE "{schema}".inbox DETACH PARTITION "{schema}".inbox_ahead;
    FOR i IN 1 .. cardinality(starts) LOOP
        part := to_char(starts[i] AT TIME ZONE 'UTC', '"inbox_"YYYYMMDD');
        EXECUTE format('ALTER TABLE %1$s.inbox ATTACH PARTITION %1$s.%2$I FOR VALUES FROM (%3$L) TO (%4$L)',
                       home, part, "{schema}".inbox_floor(starts[i]), "{schema}".inbox_floor(starts[i] + week));
    END LOOP;
    WITH moved AS (DELETE FROM "{schema}".inbox_ahead WHERE msg_id < "{schema}".inbox_floor(last + week) RETURNING *)
    INSERT INTO "{schema}".inbox SELECT * FROM moved;
    EXECUTE format('ALTER TABLE %1$s.inbox ATTACH PARTITION %1$s.inbox_ahead FOR VALUES FROM (%2$L) TO (''80000000-0000-0000-0000-000000000000'')',
                   home, "{schema}".inbox_floor(last + week));
    RETURN cardinality(starts);
END
$$;

-- Empties the oldest week of which no mark is needed any more; returns its name, or null where
-- there is none. Every mark must be older than the longest retention of the consumers that have
-- marks there: a late message may have been marked yesterday in a week of last year, and then that
-- week stays.
--
-- It locks that week alone, to which only the handling of a message that is as old writes;
-- TRUNCATE gives the space back at once, and holds up nothing in the rest of the table. What was
-- checked before is checked again under the lock.
CREATE FUNCTION inbox_empty_week() RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
    SET enable_seqscan = off
AS $$
DECLARE
    shortest interval := (SELECT min(retention) FROM "{schema}".inbox_consumers);
    keeps    interval;
    young    boolean;
    week     record;
    name     text;
BEGIN
    IF shortest IS NULL OR NOT "{schema}".inbox_try_sweep() THEN
        RETURN NULL;
    END IF;
    FOR week IN SELECT partition, ends_at FROM "{schema}".inbox_weeks() WHERE ends_at <= now() - shortest AND pg_relation_size(partition) > 0 LOOP
        keeps := "{schema}".inbox_retention_of(week.partition);
        CONTINUE WHEN keeps IS NULL OR week.ends_at > now() - keeps;
        -- What vacuum has not looked at yet is added to the index, so that little is read under the
        -- lock.
        PERFORM brin_summarize_new_values(i.indexrelid)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
          WHERE i.indrelid = week.partition AND a.amname = 'brin';
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE handled_at >= $1)', week.partition) INTO young USING now() - keeps;
        CONTINUE WHEN young;
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', week.partition);
        keeps := "{schema}".inbox_retention_of(week.partition);
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE handled_at >= $1)', week.partition) INTO young USING now() - keeps;
        IF keeps IS NULL OR week.ends_at > now() - keeps OR young THEN
            RETURN NULL;
        END IF;
        EXECUTE format('TRUNCATE %s', week.partition);
        SELECT relname INTO name FROM pg_class WHERE oid = week.partition;
        DELETE FROM "{schema}".inbox_sweeps s WHERE s.partition = name;
        RETURN name;
    END LOOP;
    RETURN NULL;
END
$$;

-- Deletes old marks from where no week is emptied: in inbox_past, inbox_ahead and inbox_hashed, and
-- in weeks that are long past and still hold marks that somebody needs. One call goes on from where
-- the last one ended, and is one transaction: it reads most_blocks, and ends earlier once it has
-- deleted most_rows, give or take 64 blocks. Partition is null if there is nothing to do now.
--
-- A search goes through the partition once, by the places of the rows, so that each block is read
-- once and no index on the time is needed. It ends by saying when the next one is worth while: when
-- the first mark that it left is old enough, but not before a tenth of the shortest retention is
-- over; a day at most, a minute at least.
CREATE FUNCTION inbox_delete_marks(most_rows int DEFAULT 5000, most_blocks int DEFAULT 2048, OUT partition text, OUT deleted bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET enable_seqscan = off
AS $$
DECLARE
    shortest interval := (SELECT min(retention) FROM "{schema}".inbox_consumers);
    stride   constant int := 64;
    state    record;
    place    regclass;
    blocks   bigint;
    looked   bigint := 0;
    gone     bigint;
    due      timestamptz;
BEGIN
    deleted := 0;
    SELECT 0::bigint AS next_block, now() AS began_at, NULL::timestamptz AS due_at, NULL::timestamptz AS next_at INTO state;
    IF shortest IS NULL OR NOT "{schema}".inbox_try_sweep() THEN
        RETURN;
    END IF;
    SELECT p.name, s.next_block, s.began_at, s.due_at INTO partition, state.next_block, state.began_at, state.due_at
      FROM (SELECT fixed FROM unnest(ARRAY['inbox_past', 'inbox_ahead', 'inbox_hashed']) AS fixed
             UNION ALL
            SELECT (SELECT relname::text FROM pg_class WHERE oid = w.partition) FROM "{schema}".inbox_weeks() w
             WHERE w.ends_at < now() - 2 * shortest - interval '14 days' AND EXISTS (
                   SELECT FROM "{schema}".inbox_consumers_in(w.partition) AS found (consumer) JOIN "{schema}".inbox_consumers USING (consumer)
                    WHERE retention IS NOT NULL)) AS p (name)
           LEFT JOIN "{schema}".inbox_sweeps s ON s.partition = p.name
     WHERE pg_relation_size(('"{schema}".' || p.name)::regclass) > 0 AND (s.next_at IS NULL OR s.next_at <= now())
     ORDER BY s.next_block > 0 DESC NULLS LAST, s.next_at NULLS FIRST, p.name LIMIT 1;
    IF partition IS NULL THEN
        RETURN;
    END IF;
    IF coalesce(state.next_block, 0) = 0 THEN
        state.next_block := 0;
        state.began_at := now();
        state.due_at := NULL;
    END IF;
    place := '"{schema}".' || partition;
    blocks := pg_relation_size(place) / current_setting('block_size')::bigint;
    WHILE state.next_block < blocks AND looked < most_blocks AND deleted < most_rows LOOP
        EXECUTE format('
            WITH looked AS MATERIALIZED (
                SELECT m.ctid AS place, m.handled_at + c.retention AS due
                  FROM %1$s m JOIN %2$s c ON c.consumer = m.consumer
                 WHERE m.ctid >= $1 AND m.ctid < $2 AND c.retention IS NOT NULL
            ), gone AS (
                DELETE FROM %1$s WHERE ctid = ANY (ARRAY(SELECT place FROM looked WHERE looked.due < now())) RETURNING 1
            )
            SELECT (SELECT count(*) FROM gone), (SELECT min(looked.due) FROM looked WHERE looked.due >= now())',
            place, '"{schema}".inbox_consumers'::regclass)
            INTO gone, due USING format('(%s,0)', state.next_block)::tid, format('(%s,0)', state.next_block + stride)::tid;
        deleted := deleted + gone;
        looked := looked + stride;
        state.due_at := least(state.due_at, due);
        state.next_block := state.next_block + stride;
    END LOOP;
    IF state.next_block >= blocks THEN
        state.next_block := 0;
        state.next_at := greatest(least(state.due_at, state.began_at + shortest),
                                  now() + least(greatest(shortest / 10, interval '1 minute'), interval '1 day'));
    END IF;
    INSERT INTO "{schema}".inbox_sweeps VALUES (partition, state.next_block, state.began_at, state.due_at, state.next_at)
    ON CONFLICT ON CONSTRAINT inbox_sweeps_pkey DO UPDATE
       SET next_block = excluded.next_block, began_at = excluded.began_at, due_at = excluded.due_at, next_at = excluded.next_at;
END
$$;

-- Deletes started marks of messages that are handled, or that will not be seen again; returns how
-- many, at most 1,000. A parked message has a mark and is yet to be handled: its started mark tells
-- how often a retry has ended its process.
CREATE FUNCTION inbox_delete_started() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
DECLARE
    gone bigint;
BEGIN
    IF NOT "{schema}".inbox_try_sweep() THEN
        RETURN 0;
    END IF;
    WITH over AS MATERIALIZED (
        SELECT s.ctid AS place, s.consumer, s.source, s.msg_id FROM "{schema}".inbox_started s LEFT JOIN "{schema}".inbox_consumers c ON c.consumer = s.consumer
         WHERE s.started_at < now() - c.retention
            OR EXISTS (SELECT FROM "{schema}".inbox m WHERE m.consumer = s.consumer AND m.source = s.source AND m.msg_id = s.msg_id)
         LIMIT 1000
    ), parked AS MATERIALIZED (
        SELECT k.consumer, p.source, "{schema}".inbox_key(p.msg_id) AS msg_id
          FROM "{schema}".inbox_parked p JOIN "{schema}".inbox_parked_keys k ON k.id = p.key_id
         WHERE EXISTS (SELECT FROM over)
    )
    DELETE FROM "{schema}".inbox_started WHERE ctid = ANY (ARRAY(
        SELECT o.place FROM over o
         WHERE NOT EXISTS (SELECT FROM parked p WHERE p.consumer = o.consumer AND p.source = o.source AND p.msg_id = o.msg_id)));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

-- Drops the oldest weeks that are empty and whose time is over by eight weeks and the longest
-- retention; returns how many. Their range falls to inbox_past. Postgres must know that inbox_past
-- fits its wider range, and to read it under the lock might take long. So one call writes down what
-- holds anyway, without a proof; the next one proves it while consumers go on, and then takes the
-- lock, under which nothing is read.
CREATE FUNCTION inbox_drop_weeks() RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
AS $$
DECLARE
    past  uuid := (SELECT substring(pg_get_expr(relpartbound, oid) FROM 'TO \(''([0-9a-f-]+)''\)')::uuid
                     FROM pg_class WHERE oid = '"{schema}".inbox_past'::regclass);
    until timestamptz := now() - interval '56 days' - coalesce((SELECT max(retention) FROM "{schema}".inbox_consumers), '0');
    gone  regclass[] := '{}';
    bound uuid;
    week  record;
BEGIN
    IF NOT "{schema}".inbox_try_sweep() THEN
        RETURN 0;
    END IF;
    FOR week IN SELECT * FROM "{schema}".inbox_weeks() LOOP
        EXIT WHEN week.ends_at > until OR pg_relation_size(week.partition) > 0;
        gone := gone || week.partition;
        bound := week.upper;
    END LOOP;
    IF bound IS NULL THEN
        RETURN 0;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = '"{schema}".inbox_past'::regclass AND conname = 'inbox_past_bound') THEN
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT inbox_past_bound CHECK (msg_id < %L) NOT VALID', '"{schema}".inbox_past'::regclass, past);
        RETURN 0;
    END IF;
    ALTER TABLE "{schema}".inbox_past VALIDATE CONSTRAINT inbox_past_bound;
    LOCK TABLE ONLY "{schema}".inbox IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE "{schema}".inbox DETACH PARTITION "{schema}".inbox_past;
    FOR i IN 1 .. cardinality(gone) LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', gone[i]);
        IF pg_relation_size(gone[i]) > 0 THEN
            RAISE EXCEPTION 'a mark has come into %', gone[i] USING ERRCODE = 'lock_not_available';
        END IF;
        DELETE FROM "{schema}".inbox_sweeps WHERE partition = (SELECT relname FROM pg_class WHERE oid = gone[i]);
        EXECUTE format('DROP TABLE %s', gone[i]);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%L)',
                   '"{schema}".inbox'::regclass, '"{schema}".inbox_past'::regclass, bound);
    ALTER TABLE "{schema}".inbox_past DROP CONSTRAINT inbox_past_bound;
    RETURN cardinality(gone);
END
$$;

-- The weeks, from two before this one. Marks that are there already move into them. The functions
-- belong to the owner of the table, and are there for consumers alone: see roles.sql.
--
-- They trust no name that somebody else may have made in this schema, and no setting of the caller
-- that hides rows. What they name without a schema is the server's own; what is theirs is written
-- out, as "{schema}" until the block puts the name there.
DO $$
DECLARE
    owner  text := (SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE pg_class.oid = 'inbox'::regclass);
    first  uuid := inbox_floor((date_trunc('week', now() AT TIME ZONE 'UTC') - interval '14 days') AT TIME ZONE 'UTC');
    home   text := quote_ident(current_schema());
    callee regprocedure;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOREACH callee IN ARRAY ARRAY['inbox_weeks()', 'inbox_consumers_in(regclass)', 'inbox_estimate()', 'inbox_retention_of(regclass)',
                                  'inbox_try_sweep()', 'inbox_retain(text, interval, text[])', 'inbox_add_weeks(int, bigint)', 'inbox_empty_week()',
                                  'inbox_delete_marks(int, int)', 'inbox_delete_started()', 'inbox_drop_weeks()']::regprocedure[] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', callee, owner);
        EXECUTE replace(replace(pg_get_functiondef(callee), '''"{schema}"', '''' || replace(home, '''', '''''')), '"{schema}"', home);
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', callee);
        EXECUTE format('ALTER FUNCTION %s SET row_security = off', callee);
        -- enable_seqscan = off makes a small plan look dear, and Postgres would take a second to
        -- compile it.
        EXECUTE format('ALTER FUNCTION %s SET jit = off', callee);
        EXECUTE (SELECT format('REVOKE ALL ON FUNCTION %s FROM %s', callee, coalesce(string_agg(DISTINCT
                        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, ', '), 'PUBLIC'))
                   FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE pg_proc.oid = callee AND grantee <> proowner);
    END LOOP;
    LOCK TABLE ONLY inbox IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE inbox DETACH PARTITION inbox_past;
    ALTER TABLE inbox DETACH PARTITION inbox_ahead;
    WITH moved AS (DELETE FROM inbox_ahead WHERE msg_id < first RETURNING *) INSERT INTO inbox_past SELECT * FROM moved;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_past FOR VALUES FROM (MINVALUE) TO (%L)', first);
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_ahead FOR VALUES FROM (%L) TO (''80000000-0000-0000-0000-000000000000'')',
                   first);
    PERFORM inbox_add_weeks(most_blocks => 9223372036854775807);
END
$$;

COMMENT ON FUNCTION inbox_weeks() IS 'The partitions of weeks in their order.';
COMMENT ON FUNCTION inbox_consumers_in(regclass) IS 'The consumers that have marks in a partition.';
COMMENT ON FUNCTION inbox_estimate() IS 'About how many marks each consumer has, by the statistics of Postgres.';
COMMENT ON FUNCTION inbox_retention_of(regclass) IS 'The longest retention of the consumers that have marks in a partition; null forever.';
COMMENT ON FUNCTION inbox_try_sweep() IS 'True if no other session removes marks or changes partitions at this moment.';
COMMENT ON FUNCTION inbox_retain(text, interval, text[]) IS
    'Claims how long the marks of a consumer are kept; null forever. The longest claim counts.';
COMMENT ON FUNCTION inbox_add_weeks(int, bigint) IS
    'Adds partitions of weeks unless so many lie ahead; returns how many. Called by consumers.';
COMMENT ON FUNCTION inbox_empty_week() IS
    'Truncates the oldest week of which no mark is needed; returns its name, or null. Called by consumers.';
COMMENT ON FUNCTION inbox_delete_marks(int, int) IS 'Deletes a batch of old marks that lie in no such week. Called by consumers.';
COMMENT ON FUNCTION inbox_delete_started() IS 'Deletes started marks that are not needed; returns how many. Called by consumers.';
COMMENT ON FUNCTION inbox_drop_weeks() IS 'Drops the oldest empty weeks; returns how many. Called by consumers.';
