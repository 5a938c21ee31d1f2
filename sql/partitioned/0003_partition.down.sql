-- Back to one table. It copies every retained row while writers and the relay wait: let the
-- retention empty the outbox first.
DO $$
DECLARE
    owner text := (SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE pg_class.oid = 'outbox'::regclass);
    note  text := obj_description('outbox'::regclass, 'pg_class');
    next  bigint;
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
    -- What hangs on the partitioned table or on a partition would go with it.
    IF EXISTS (SELECT FROM (SELECT 'outbox'::regclass AS place UNION ALL SELECT partition FROM outbox_partitions()) AS tables WHERE
               EXISTS (SELECT FROM pg_trigger WHERE tgrelid = place AND NOT tgisinternal AND tgname <> 'outbox_own_transaction')
            OR EXISTS (SELECT FROM pg_class WHERE oid = place AND (relrowsecurity OR relforcerowsecurity))
            OR EXISTS (SELECT FROM pg_policy WHERE polrelid = place)
            OR EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = place)
            OR EXISTS (SELECT FROM pg_constraint WHERE confrelid = place)
            OR EXISTS (SELECT FROM pg_depend WHERE refobjid = place AND classid = 'pg_rewrite'::regclass)) THEN
        RAISE EXCEPTION 'outbox or a partition of it has a trigger, row-level security, a policy, a publication, a foreign key or a view'
            USING HINT = 'It would go with the old table. Drop it, and make it again on the new one.';
    END IF;
    EXECUTE format('SELECT last_value + is_called::int FROM %s', pg_get_serial_sequence('outbox', 'id')) INTO next;
    ALTER TABLE outbox ALTER COLUMN id DROP IDENTITY;
    ALTER TABLE outbox RENAME TO outbox_partitioned;
    ALTER INDEX outbox_pkey RENAME TO outbox_partitioned_pkey;
    ALTER INDEX outbox_xact_id_idx RENAME TO outbox_partitioned_xact_id_idx;
    CREATE TABLE outbox (LIKE outbox_partitioned INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMMENTS);
    INSERT INTO outbox SELECT * FROM outbox_partitioned ORDER BY id;
    EXECUTE format('ALTER TABLE outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH %s CACHE 1)', next);
    ALTER TABLE outbox ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
    CREATE INDEX outbox_xact_id_idx ON outbox (xact_id, id);
    CREATE TRIGGER outbox_own_transaction AFTER INSERT ON outbox
        FOR EACH ROW WHEN (NEW.xact_id <> pg_current_xact_id()) EXECUTE FUNCTION outbox_refuse_row();
    ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_own_transaction;
    EXECUTE format('COMMENT ON TABLE outbox IS %L', note);
    EXECUTE format('ALTER TABLE outbox OWNER TO %I', owner);
    ALTER TABLE outbox SET (
        autovacuum_vacuum_scale_factor = 0.05,
        autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_threshold = -1,
        autovacuum_vacuum_cost_limit = 2000,
        toast.autovacuum_vacuum_scale_factor = 0.05,
        toast.autovacuum_vacuum_threshold = 5000,
        toast.autovacuum_vacuum_insert_threshold = -1,
        toast.autovacuum_vacuum_cost_limit = 2000
    );
    -- Exactly the privileges of the old table and its sequence, whatever the default privileges
    -- are.
    ids := pg_get_serial_sequence('outbox', 'id')::regclass;
    PERFORM outbox_private('outbox'), outbox_private(ids);
    IF (SELECT relacl FROM pg_class WHERE oid = 'outbox_partitioned'::regclass) IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON outbox FROM %I', owner);
    END IF;
    FOR given IN
        SELECT privilege_type || coalesce(' (' || quote_ident(attname) || ')', '') AS privilege,
               'outbox' AS object, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, is_grantable
          FROM (SELECT NULL AS attname, relacl AS acl FROM pg_class WHERE oid = 'outbox_partitioned'::regclass
                UNION ALL
                SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'outbox_partitioned'::regclass AND attacl IS NOT NULL) lists,
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
    DROP TABLE outbox_partitioned;
    -- The bound of step 1, which its way down removes.
    EXECUTE format('ALTER TABLE outbox ADD CONSTRAINT outbox_before_partitions CHECK (id < %s)', next + 1000000000);
END
$$;
