-- An outbox partitioned by ranges of id, for high volume: whole partitions are emptied and dropped
-- instead of rows deleted, so there is nothing to vacuum. Optional: three steps, each a
-- transaction, after the numbered migrations. They turn a table that is in use; nothing is copied,
-- and writers wait twice for a moment. Run the files in psql in their order, or relay migrate up
-- --layout partitioned.
--
-- Step 1: the functions that the relay calls to add and drop partitions, and a bound for the rows
-- that are there. The functions run with the rights of the owner of the table, and not of the
-- caller; so they check everything that they are told.

-- The partitions in the order of their ranges. The oldest may have no lower bound; the last one,
-- outbox_overflow, has no upper one: it takes the rows for whose ids there is no other partition,
-- so that no insert ever fails for want of one. It is not a default partition, because then
-- Postgres would not know that the partitions follow one another, and a read in the order of ids
-- would look into all of them.
CREATE FUNCTION outbox_partitions() RETURNS TABLE (partition regclass, lower bigint, upper bigint)
    LANGUAGE sql STABLE
AS $$
    SELECT c.oid::regclass, bounds[1]::bigint, bounds[2]::bigint
      FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid,
           regexp_match(pg_get_expr(c.relpartbound, c.oid),
                        '^FOR VALUES FROM \((?:MINVALUE|''(-?\d+)'')\) TO \((?:MAXVALUE|''(-?\d+)'')\)$') AS bounds
     WHERE inhparent = to_regclass('"{schema}".outbox') AND bounds IS NOT NULL
     ORDER BY bounds[2]::bigint NULLS LAST
$$;

-- Takes the privileges on a table or a sequence from every role but its owner. Default privileges
-- give them to whatever is new; rows are read and written through outbox as a whole, and so by its
-- privileges alone.
CREATE FUNCTION outbox_private(place regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT DISTINCT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
               CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role
          FROM pg_class c, LATERAL (SELECT c.relacl AS acl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = c.oid) lists, aclexplode(acl)
         WHERE c.oid = place AND grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', given.kind, place, given.role);
    END LOOP;
END
$$;

-- Adds the next partition unless so many lie ahead of the ids that are drawn now; returns its name,
-- or NULL if nothing was added. Called again and again by the relay. Three ways:
--
-- If outbox_overflow is empty, its range is cut: the new partition comes before it. The lock
-- keeps writers out for that moment, since a statement that began before would go on by the old
-- ranges and fail; they wait no longer than lock_timeout allows.
--
-- If ids have outrun the partitions, outbox_overflow becomes an ordinary partition, and a new
-- one follows it. Postgres must know that no row is beyond its new upper bound, and to read them
-- all under the lock would take long. So one call adds a constraint that no insert reaches for a
-- long time, the next one validates it while writers go on, and a third one takes it as the proof.
-- Then the sequence jumps to the bound: ids need not be without gaps, and under the lock none is on
-- its way.
CREATE FUNCTION outbox_add_partition(ahead int DEFAULT 3) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
    -- Whatever the statistics say, what is looked up under the lock is looked up in the index.
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    ids    regclass := pg_get_serial_sequence('"{schema}".outbox', 'id')::regclass;
    home   text     := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '"{schema}".outbox'::regclass);
    width  bigint   := "{schema}".outbox_partition_rows();
    like_outbox text := 'CREATE TABLE %1$s.%2$I (LIKE %1$s.outbox INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE) '
                        'WITH (autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)';
    attach text     := 'ALTER TABLE %1$s.outbox ATTACH PARTITION %1$s.%2$I FOR VALUES FROM (%3$s) TO (%4$s)';
    taken  bigint;
    top    bigint;
    bound  bigint;
    proven boolean;
    name   text;
    index  name;
BEGIN
    IF ahead IS NULL OR ahead NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'outbox_add_partition: ahead must be between 1 and 100' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox_add_partition: what is checked under the lock needs its own snapshot: use READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    -- One at a time, and no waiting behind the other.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('outbox partitions', '"{schema}".outbox'::regclass::oid::bigint)) THEN
        RETURN NULL;
    END IF;
    SELECT p.lower INTO STRICT top FROM "{schema}".outbox_partitions() p WHERE p.partition = '"{schema}".outbox_overflow'::regclass;
    EXECUTE format('SELECT last_value FROM %s', ids) INTO taken;
    IF top > taken + ahead * width THEN
        RETURN NULL;
    END IF;
    name := 'outbox_p' || top;

    IF NOT EXISTS (SELECT FROM "{schema}".outbox_overflow) THEN
        LOCK TABLE "{schema}".outbox IN ACCESS EXCLUSIVE MODE;
        IF EXISTS (SELECT FROM "{schema}".outbox_overflow) THEN
            RETURN NULL;
        END IF;
        EXECUTE format(like_outbox, home, name);
        PERFORM "{schema}".outbox_private(format('%s.%I', home, name)::regclass);
        ALTER TABLE "{schema}".outbox DETACH PARTITION "{schema}".outbox_overflow;
        EXECUTE format(attach, home, name, top, top + width);
        EXECUTE format(attach, home, 'outbox_overflow', top + width, 'MAXVALUE');
        RETURN name;
    END IF;

    SELECT substring(pg_get_constraintdef(oid) FROM '\d+')::bigint, convalidated INTO bound, proven FROM pg_constraint
     WHERE conrelid = '"{schema}".outbox_overflow'::regclass AND conname = 'outbox_overflow_bound';
    IF bound IS NULL THEN
        bound := top + ((taken - top) / width + 1000000000 / width + 1) * width;
        EXECUTE format('ALTER TABLE %s.outbox_overflow ADD CONSTRAINT outbox_overflow_bound CHECK (id < %s) NOT VALID', home, bound);
        RETURN NULL;
    ELSIF NOT proven THEN
        ALTER TABLE "{schema}".outbox_overflow VALIDATE CONSTRAINT outbox_overflow_bound;
        RETURN NULL;
    END IF;
    LOCK TABLE "{schema}".outbox IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE "{schema}".outbox DETACH PARTITION "{schema}".outbox_overflow;
    EXECUTE format('ALTER TABLE %s.outbox_overflow RENAME TO %I', home, name);
    FOR index IN SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = (home || '.' || name)::regclass LOOP
        EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', home, index, replace(index, 'outbox_overflow', name));
    END LOOP;
    EXECUTE format(attach, home, name, top, bound);
    EXECUTE format('ALTER TABLE %s.%I DROP CONSTRAINT outbox_overflow_bound', home, name);
    EXECUTE format(like_outbox, home, 'outbox_overflow');
    PERFORM "{schema}".outbox_private('"{schema}".outbox_overflow');
    EXECUTE format(attach, home, 'outbox_overflow', bound, 'MAXVALUE');
    PERFORM setval(ids, bound, false);
    RETURN name;
END
$$;

-- Empties the oldest partition of which every row is visible in a snapshot and older than an age,
-- if its range is below an id and behind the ids that are drawn now; returns its name, or NULL
-- if there is none. It locks that partition alone, to which nothing writes any more: TRUNCATE
-- gives the space back at once, whatever goes on in the rest of the table.
--
-- The ages are read before the lock. Rows that came after that are not visible in the snapshot,
-- which is older, and visibility is what is checked under the lock, through the index: not visible
-- is what began after the snapshot or ran when it was taken.
CREATE FUNCTION outbox_empty_partition(published pg_snapshot, below bigint, older_than interval) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    ids     regclass := pg_get_serial_sequence('"{schema}".outbox', 'id')::regclass;
    began   xid8     := pg_snapshot_xmax(published);
    running xid8[]   := ARRAY(SELECT pg_snapshot_xip(published));
    taken   bigint;
    part    record;
    newest  timestamptz;
    hidden  boolean;
    unseen  text;
BEGIN
    IF published IS NULL OR below IS NULL OR older_than IS NULL OR older_than < interval '0' THEN
        RAISE EXCEPTION 'outbox_empty_partition: no argument may be null, and older_than not negative' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF pg_snapshot_xmax(published) > pg_snapshot_xmax(pg_current_snapshot()) THEN
        RAISE EXCEPTION 'outbox_empty_partition: the snapshot is of the future' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox_empty_partition: what is checked under the lock needs its own snapshot: use READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    EXECUTE format('SELECT last_value FROM %s', ids) INTO taken;
    FOR part IN SELECT p.partition AS place, c.relname::text AS name FROM "{schema}".outbox_partitions() p JOIN pg_class c ON c.oid = p.partition WHERE p.upper <= least(taken, below) ORDER BY p.upper LOOP
        -- The row with the highest id tells at little cost that a partition is too young, and so
        -- are those after it.
        EXECUTE format('SELECT created_at FROM %s ORDER BY id DESC LIMIT 1', part.place) INTO newest;
        CONTINUE WHEN newest IS NULL;
        EXIT WHEN newest > now() - older_than;
        unseen := format('SELECT EXISTS (SELECT FROM %1$s WHERE xact_id >= $1) OR EXISTS (SELECT FROM %1$s WHERE xact_id = ANY ($2))', part.place);
        EXECUTE unseen INTO hidden USING began, running;
        CONTINUE WHEN hidden;
        PERFORM set_config('enable_seqscan', 'on', true);
        EXECUTE format('SELECT max(created_at) > now() - $1 FROM %s', part.place) INTO hidden USING older_than;
        PERFORM set_config('enable_seqscan', 'off', true);
        CONTINUE WHEN hidden;
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part.place);
        EXECUTE unseen INTO hidden USING began, running;
        IF hidden THEN
            RETURN NULL;
        END IF;
        EXECUTE format('TRUNCATE %s', part.place);
        RETURN part.name;
    END LOOP;
    RETURN NULL;
END
$$;

-- Drops the oldest empty partition whose range is behind the ids that are drawn now; returns its
-- name, or NULL if there is none. Writers are kept out for that moment, as in
-- outbox_add_partition: one of them might have drawn its id and not inserted it yet.
CREATE FUNCTION outbox_drop_partition() RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    ids   regclass := pg_get_serial_sequence('"{schema}".outbox', 'id')::regclass;
    taken bigint;
    part  record;
    empty boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox_drop_partition: what is checked under the lock needs its own snapshot: use READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    EXECUTE format('SELECT last_value FROM %s', ids) INTO taken;
    FOR part IN SELECT p.partition AS place, c.relname::text AS name FROM "{schema}".outbox_partitions() p JOIN pg_class c ON c.oid = p.partition WHERE p.upper <= taken ORDER BY p.upper LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', part.place) INTO empty;
        CONTINUE WHEN NOT empty;
        LOCK TABLE "{schema}".outbox IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', part.place) INTO empty;
        IF NOT empty THEN
            RETURN NULL;
        END IF;
        EXECUTE format('DROP TABLE %s', part.place);
        RETURN part.name;
    END LOOP;
    RETURN NULL;
END
$$;

-- The functions belong to the owner of the table, and are there for the relay alone: see roles.sql.
-- They trust no name that somebody else may have made in this schema, and no setting of the caller
-- that hides rows. What they name without a schema is the server's own; what is theirs is written
-- out, as "{schema}" until the block puts the name there. ALTER
-- SCHEMA .. RENAME does not change them: docs/security.md says how to write the new name into them.
--
-- The bound is so far ahead that no insert reaches it before step 3, which needs it as the proof
-- that it may attach the table as a partition without reading it, and removes it.
DO $$
DECLARE
    owner  text := (SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE pg_class.oid = 'outbox'::regclass);
    width  bigint := coalesce(nullif(current_setting('outbox.partition_rows', true), '')::bigint, 5000000);
    home   text := quote_ident(current_schema());
    bound  bigint;
    callee regprocedure;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    IF (SELECT relkind FROM pg_class WHERE oid = 'outbox'::regclass) <> 'r' THEN
        RAISE EXCEPTION 'outbox is not a plain table';
    END IF;
    IF width NOT BETWEEN 1000 AND 1000000000 THEN
        RAISE EXCEPTION 'outbox.partition_rows is %, and must be between 1000 and 1000000000', width;
    END IF;
    EXECUTE format('CREATE FUNCTION outbox_partition_rows() RETURNS bigint LANGUAGE sql IMMUTABLE RETURN %s', width);
    COMMENT ON FUNCTION outbox_partition_rows() IS 'How many ids a new partition holds. Replace it to change that.';
    FOREACH callee IN ARRAY ARRAY['outbox_partition_rows()', 'outbox_partitions()', 'outbox_private(regclass)', 'outbox_add_partition(int)',
                                  'outbox_empty_partition(pg_snapshot, bigint, interval)', 'outbox_drop_partition()']::regprocedure[] LOOP
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
    EXECUTE format('SELECT (last_value / %s + 1) * %s + 1000000000 / %s * %s FROM %s', width, width, width, width,
                   pg_get_serial_sequence('outbox', 'id')) INTO bound;
    EXECUTE format('ALTER TABLE outbox ADD CONSTRAINT outbox_before_partitions CHECK (id < %s) NOT VALID', bound);
END
$$;

COMMENT ON FUNCTION outbox_partitions() IS 'The partitions of outbox in the order of their ranges.';
COMMENT ON FUNCTION outbox_private(regclass) IS 'Takes the privileges on a table or a sequence from every role but its owner.';
COMMENT ON FUNCTION outbox_add_partition(int) IS
    'Adds the next partition unless so many lie ahead; returns its name, or NULL. Called by relay.';
COMMENT ON FUNCTION outbox_empty_partition(pg_snapshot, bigint, interval) IS
    'Truncates the oldest partition below an id whose rows are all visible in a snapshot and old enough; returns its name, or NULL. Called by relay.';
COMMENT ON FUNCTION outbox_drop_partition() IS
    'Drops the oldest empty partition behind the ids that are drawn now; returns its name, or NULL. Called by relay.';
