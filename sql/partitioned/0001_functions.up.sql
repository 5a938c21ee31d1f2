-- An outbox partitioned by ranges of id, for high volume: whole partitions are dropped instead of rows deleted, so there is
-- nothing to vacuum. Optional: three steps, each a transaction, after the numbered migrations. They turn a table that is in
-- use; nothing is copied, and writers wait twice for a moment. Run the files in psql in their order, or relay migrate up --layout partitioned.
--
-- Step 1: the functions that the relay calls to add and drop partitions, and a bound for the rows that are there. The functions
-- run with the rights of the owner of the table, whoever calls them; so they trust nothing that they are told.

-- The range partitions in their order. The oldest may have no lower bound; the default partition has no range and is left out.
CREATE FUNCTION outbox_partitions() RETURNS TABLE (partition regclass, lower bigint, upper bigint)
    LANGUAGE sql STABLE
AS $$
    SELECT c.oid::regclass, bounds[1]::bigint, bounds[2]::bigint
      FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid,
           regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((?:MINVALUE|''(-?\d+)'')\) TO \(''(-?\d+)''\)$') AS bounds
     WHERE inhparent = to_regclass('outbox') AND bounds IS NOT NULL
     ORDER BY bounds[2]::bigint
$$;

-- Adds the next partition, as wide as the newest one, unless so many lie ahead of the ids that are drawn now; returns its name, or
-- NULL where enough are there. Called again and again by the relay.
--
-- The lock keeps writers out for the moment of the attachment: a statement that began without the partition would take its
-- rows to the default partition, which must not hold them any more, and fail. Writers wait no longer than lock_timeout allows.
--
-- Where the ids have outrun the partitions, their rows are in the default partition. Then the next partition begins beyond
-- them, and the sequence jumps there: ids need not be without gaps. It happens under the lock, when no id is on its way.
CREATE FUNCTION outbox_add_partition(ahead int DEFAULT 3) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
AS $$
DECLARE
    ids   regclass := pg_get_serial_sequence('outbox', 'id')::regclass;
    taken bigint;
    width bigint;
    top   bigint;
    jump  boolean  := false;
    name  text;
    home  text     := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'outbox'::regclass);
BEGIN
    IF ahead IS NULL OR ahead NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'outbox_add_partition: ahead must be between 1 and 100' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- One at a time, and no waiting behind the other.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('outbox partitions', 'outbox'::regclass::oid::bigint)) THEN
        RETURN NULL;
    END IF;
    SELECT p.upper, p.upper - p.lower INTO top, width FROM outbox_partitions() p WHERE p.lower IS NOT NULL ORDER BY p.upper DESC LIMIT 1;
    IF top IS NULL THEN
        RAISE EXCEPTION 'outbox_add_partition: outbox has no partition to take the width from';
    END IF;
    EXECUTE format('SELECT last_value FROM %s', ids) INTO taken;
    IF top > taken + ahead * width THEN
        RETURN NULL;
    END IF;
    LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('SELECT greatest(last_value, (SELECT max(id) FROM outbox_default)) FROM %s', ids) INTO taken;
    IF top <= taken THEN
        top := top + ((taken - top) / width + 1) * width;
        jump := true;
    END IF;
    name := 'outbox_p' || top;
    EXECUTE format('CREATE TABLE %s.%I (LIKE outbox INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE)', home, name);
    -- Rows are never deleted one by one, so there is nothing to vacuum; against wraparound it is vacuumed all the same.
    EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)', name);
    EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, top, top + width);
    IF jump THEN
        PERFORM setval(ids, top, false);
    END IF;
    RETURN name;
END
$$;

-- Drops the oldest partition of which every row is visible in a snapshot and older than an age, if its range lies below an id
-- and behind the ids that are drawn now; returns its name, or NULL where there is none.
--
-- The ages are read before the lock. Rows that came after that are not visible in the snapshot, which is older, and visibility
-- is what is checked under the lock, through the index: not visible is what began after the snapshot or ran when it was taken.
CREATE FUNCTION outbox_drop_partition(published pg_snapshot, below bigint, older_than interval) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET lock_timeout = '100ms'
    -- Whatever the statistics say, what is looked up under the lock is looked up in the index.
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    ids     regclass := pg_get_serial_sequence('outbox', 'id')::regclass;
    began   xid8     := pg_snapshot_xmax(published);
    running xid8[]   := ARRAY(SELECT pg_snapshot_xip(published));
    taken   bigint;
    part    record;
    newest  timestamptz;
    hidden  boolean;
    unseen  text;
    name    text;
BEGIN
    IF published IS NULL OR below IS NULL OR older_than IS NULL OR older_than < interval '0' THEN
        RAISE EXCEPTION 'outbox_drop_partition: no argument may be null, and older_than not negative' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF pg_snapshot_xmax(published) > pg_snapshot_xmax(pg_current_snapshot()) THEN
        RAISE EXCEPTION 'outbox_drop_partition: the snapshot is of the future' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('SELECT last_value FROM %s', ids) INTO taken;
    FOR part IN SELECT p.partition, p.upper FROM outbox_partitions() p WHERE p.upper <= least(taken, below) ORDER BY p.upper LOOP
        -- The row with the highest id tells at little cost that a partition is too young, and so are those after it.
        EXECUTE format('SELECT created_at FROM %s ORDER BY id DESC LIMIT 1', part.partition) INTO newest;
        EXIT WHEN newest > now() - older_than;
        unseen := format('SELECT EXISTS (SELECT FROM %1$s WHERE xact_id >= $1) OR EXISTS (SELECT FROM %1$s WHERE xact_id = ANY ($2))', part.partition);
        EXECUTE unseen INTO hidden USING began, running;
        CONTINUE WHEN hidden;
        PERFORM set_config('enable_seqscan', 'on', true);
        EXECUTE format('SELECT coalesce(max(created_at) > now() - $1, false) FROM %s', part.partition) INTO hidden USING older_than;
        PERFORM set_config('enable_seqscan', 'off', true);
        CONTINUE WHEN hidden;
        name := part.partition::text;
        LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
        EXECUTE unseen INTO hidden USING began, running;
        IF hidden THEN
            RETURN NULL;
        END IF;
        EXECUTE format('DROP TABLE %s', name);
        RETURN name;
    END LOOP;
    RETURN NULL;
END
$$;

-- The functions belong to the owner of the table, find their objects in its schema only, and are there for the relay alone: see
-- roles.sql. The bound lies so far ahead that no insert reaches it before step 3, which needs it as the proof that it may attach
-- the table as a partition without reading it, and takes it away.
DO $$
DECLARE
    owner  text := (SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE pg_class.oid = 'outbox'::regclass);
    width  bigint := coalesce(nullif(current_setting('outbox.partition_rows', true), '')::bigint, 5000000);
    bound  bigint;
    callee text;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    IF (SELECT relkind FROM pg_class WHERE oid = 'outbox'::regclass) <> 'r' THEN
        RAISE EXCEPTION 'outbox is not a plain table';
    END IF;
    IF width NOT BETWEEN 1000 AND 1000000000 THEN
        RAISE EXCEPTION 'outbox.partition_rows is %, and must be between 1000 and 1000000000', width;
    END IF;
    FOREACH callee IN ARRAY ARRAY['outbox_partitions()', 'outbox_add_partition(int)',
                                  'outbox_drop_partition(pg_snapshot, bigint, interval)'] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', callee, owner);
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', callee, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', callee);
    END LOOP;
    EXECUTE format('SELECT (last_value / %s + 1) * %s + 1000000000 / %s * %s FROM %s', width, width, width, width,
                   pg_get_serial_sequence('outbox', 'id')) INTO bound;
    EXECUTE format('ALTER TABLE outbox ADD CONSTRAINT outbox_before_partitions CHECK (id < %s) NOT VALID', bound);
END
$$;

COMMENT ON FUNCTION outbox_partitions() IS 'The range partitions of outbox in their order, without the default partition.';
COMMENT ON FUNCTION outbox_add_partition(int) IS
    'Adds the next partition unless so many lie ahead; returns its name, or NULL. Called by relay.';
COMMENT ON FUNCTION outbox_drop_partition(pg_snapshot, bigint, interval) IS
    'Drops the oldest partition below an id whose rows are all visible in a snapshot and old enough; returns its name, or NULL. Called by relay.';
