-- Step 3: the table becomes the oldest partition of a new table of the same name, and the ids go on
-- at the bound. A moment of exclusive lock; nothing is copied or read. A table without rows is
-- replaced.
--
-- One block, so that it is done whole or not at all, in psql too. What hangs on the old table by
-- its identity and would stay with it is refused: move it, or do without.
DO $$
DECLARE
    owner text := (SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE pg_class.oid = 'outbox'::regclass);
    note  text := obj_description('outbox'::regclass, 'pg_class');
    width bigint := outbox_partition_rows();
    -- Rows of a partition are not deleted one by one, so there is nothing to vacuum but against
    -- wraparound.
    quiet text := 'autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1';
    bound bigint;
    first bigint;
    empty boolean;
    -- What is granted on the sequence of the ids, and the sequence that takes its place.
    drawn aclitem[] := (SELECT relacl FROM pg_class WHERE oid = pg_get_serial_sequence('outbox', 'id')::regclass);
    ids   regclass;
    given record;
    -- The state of relays, of which a lane is bound to this table by its oid. A table of a stranger
    -- is not touched: it may have triggers.
    was   oid := 'outbox'::regclass;
    homes regclass[] := ARRAY(
        SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'table_oid' AND NOT a.attisdropped
         WHERE c.relname = 'relay_bindings' AND c.relkind = 'r'
           AND c.relowner IN ((SELECT relowner FROM pg_class WHERE oid = 'outbox'::regclass), current_user::regrole));
    home  regclass;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    -- What binds the lane before the table, as a takeover locks them.
    FOREACH home IN ARRAY homes LOOP
        EXECUTE format('SELECT FROM %s WHERE table_oid = %s FOR UPDATE', home, was);
    END LOOP;
    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
    SELECT substring(pg_get_constraintdef(oid) FROM '\d+')::bigint INTO bound FROM pg_constraint
     WHERE conrelid = 'outbox'::regclass AND conname = 'outbox_before_partitions' AND convalidated;
    IF bound IS NULL THEN
        RAISE EXCEPTION 'outbox has no validated bound: take steps 1 and 2 first';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'outbox'::regclass AND NOT tgisinternal AND tgname <> 'outbox_own_transaction')
       OR EXISTS (SELECT FROM pg_class WHERE oid = 'outbox'::regclass AND (relrowsecurity OR relforcerowsecurity))
       OR EXISTS (SELECT FROM pg_policy WHERE polrelid = 'outbox'::regclass)
       OR EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = 'outbox'::regclass)
       OR EXISTS (SELECT FROM pg_constraint WHERE confrelid = 'outbox'::regclass)
       OR EXISTS (SELECT FROM pg_inherits WHERE 'outbox'::regclass IN (inhrelid, inhparent))
       OR EXISTS (SELECT FROM pg_depend WHERE refobjid = 'outbox'::regclass AND classid = 'pg_rewrite'::regclass) THEN
        RAISE EXCEPTION 'outbox has a trigger, row-level security, a policy, a publication, a foreign key, a child or a view'
            USING HINT = 'It would stay with the old table. Drop it, and make it again on the new one.';
    END IF;

    DROP TRIGGER outbox_own_transaction ON outbox;
    ALTER TABLE outbox RENAME TO outbox_before;
    ALTER INDEX outbox_pkey RENAME TO outbox_before_pkey;
    ALTER INDEX outbox_xact_id_idx RENAME TO outbox_before_xact_id_idx;
    CREATE TABLE outbox (LIKE outbox_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMMENTS)
        PARTITION BY RANGE (id);
    ALTER TABLE outbox DROP CONSTRAINT outbox_before_partitions;
    ALTER TABLE outbox ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
    CREATE INDEX outbox_xact_id_idx ON outbox (xact_id, id);
    EXECUTE format('COMMENT ON TABLE outbox IS %L', note);
    EXECUTE format('ALTER TABLE outbox OWNER TO %I', owner);

    -- An identity column on the partitioned table alone is what every version from 14 on can do.
    SELECT NOT EXISTS (SELECT FROM outbox_before) INTO empty;
    IF empty THEN
        EXECUTE format('SELECT last_value + is_called::int FROM %s', pg_get_serial_sequence('outbox_before', 'id')) INTO bound;
    END IF;
    ALTER TABLE outbox_before ALTER COLUMN id DROP IDENTITY;
    EXECUTE format('ALTER TABLE outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH %s CACHE 1)', bound);

    -- Exactly the privileges of the old table and its sequence, whatever the default privileges
    -- are.
    ids := pg_get_serial_sequence('outbox', 'id')::regclass;
    PERFORM outbox_private('outbox'), outbox_private(ids);
    IF (SELECT relacl FROM pg_class WHERE oid = 'outbox_before'::regclass) IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON outbox FROM %I', owner);
    END IF;
    FOR given IN
        SELECT privilege_type || coalesce(' (' || quote_ident(attname) || ')', '') AS privilege,
               'outbox' AS object, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, is_grantable
          FROM (SELECT NULL AS attname, relacl AS acl FROM pg_class WHERE oid = 'outbox_before'::regclass
                UNION ALL
                SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'outbox_before'::regclass AND attacl IS NOT NULL) lists,
               aclexplode(acl)
         UNION ALL
        SELECT privilege_type, 'SEQUENCE ' || ids, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, is_grantable
          FROM aclexplode(drawn)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s%s', given.privilege, given.object, given.role,
                       CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;

    -- The lane comes along and keeps its place: rows keep their ids and their transactions.
    FOREACH home IN ARRAY homes LOOP
        EXECUTE format('UPDATE %s SET table_oid = %s WHERE table_oid = %s', home, 'outbox'::regclass::oid, was);
    END LOOP;
    FOR home IN
        SELECT c.oid::regclass FROM pg_class c WHERE c.relname = 'relay_bindings' AND c.relkind = 'r' AND c.oid <> ALL (homes)
    LOOP
        RAISE WARNING '% has another owner: where it has a lane of this outbox, that lane halts', home
            USING HINT = format('As its owner: UPDATE %s SET table_oid = %s WHERE table_oid = %s;', home, 'outbox'::regclass::oid, was);
    END LOOP;

    IF empty THEN
        DROP TABLE outbox_before;
        first := bound / width * width;
    ELSE
        EXECUTE format('ALTER TABLE outbox ATTACH PARTITION outbox_before FOR VALUES FROM (MINVALUE) TO (%s)', bound);
        ALTER TABLE outbox_before DROP CONSTRAINT outbox_before_partitions;
        PERFORM outbox_private('outbox_before');
        first := bound;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF outbox FOR VALUES FROM (%s) TO (%s) WITH (%s)', 'outbox_p' || first, first, first + width, quiet);
    EXECUTE format('CREATE TABLE outbox_overflow PARTITION OF outbox FOR VALUES FROM (%s) TO (MAXVALUE) WITH (%s)', first + width, quiet);
    EXECUTE format('ALTER TABLE %I OWNER TO %I', 'outbox_p' || first, owner);
    EXECUTE format('ALTER TABLE outbox_overflow OWNER TO %I', owner);
    PERFORM outbox_private(('outbox_p' || first)::regclass), outbox_private('outbox_overflow');
    CREATE TRIGGER outbox_own_transaction AFTER INSERT ON outbox
        FOR EACH ROW WHEN (NEW.xact_id <> pg_current_xact_id()) EXECUTE FUNCTION outbox_refuse_row();
    ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_own_transaction;
END
$$;

-- The next ones; the relay adds more as ids are drawn.
SELECT outbox_add_partition() FROM generate_series(1, 3);
