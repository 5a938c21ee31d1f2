-- Least-privilege roles for the outbox in the schema of the search_path. Not a migration: nothing
-- applies it by itself. Run it in psql as the owner of the tables, who may create roles; again
-- after a new version; as often as you like:
--
--     psql -1 -v ON_ERROR_STOP=1 -f roles.sql
--     GRANT outbox_writer TO my_service;
--     GRANT relay TO my_relay_login;
--     GRANT relay_operator TO ada;
--
-- Roles belong to the whole cluster: in several databases or schemas the same roles get their
-- rights one by one. What the roles hold on these tables and functions beyond the list below is
-- taken away.

DO $$
BEGIN
    -- Two at once may both find no role; the slower one then finds it made.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'outbox_writer') THEN
        BEGIN
            CREATE ROLE outbox_writer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay') THEN
        BEGIN
            CREATE ROLE relay NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_operator') THEN
        BEGIN
            CREATE ROLE relay_operator NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO outbox_writer, relay, relay_operator', current_schema());
END
$$;

REVOKE ALL ON outbox, relay_lanes, relay_bindings, relay_recoveries, outbox_parked, outbox_parked_audit FROM outbox_writer, relay, relay_operator;

-- Services write events, and nothing else: no reading back, no changing, no deleting. Not id,
-- xact_id and created_at either, on whose defaults order, visibility and retention rest. Nor topic,
-- which overrides the route of the relay.
GRANT INSERT (msg_id, aggregate_type, aggregate_id, type, payload, headers) ON outbox TO outbox_writer;
-- For services that choose the topic of an event. The setting topics.allow says which topics they
-- may name. GRANT INSERT (topic) ON outbox TO outbox_writer;

-- Every role may execute a new function unless the database says otherwise; these lines are for one
-- that does.
GRANT EXECUTE ON FUNCTION
    outbox_uuidv7(),
    outbox_write(text, text, text, jsonb, jsonb, text),
    outbox_write_bytes(text, text, text, bytea, jsonb, text),
    outbox_lock_aggregate(text, text)
TO outbox_writer;

-- The relay reads events, deletes published ones, and keeps its state. It changes no event.
GRANT SELECT, DELETE ON outbox TO relay;
GRANT SELECT, INSERT, UPDATE ON relay_lanes TO relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay_bindings TO relay;
GRANT SELECT, INSERT, UPDATE (finished_at) ON relay_recoveries TO relay;

-- It parks events in their order, and carries out what is asked for of them.
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_parked, outbox_parked_audit TO relay;

-- People look at what is parked and ask for something to be done about it. Who asked is the default
-- of requested_by.
GRANT SELECT ON relay_lanes, relay_bindings, outbox_parked, outbox_parked_audit TO relay_operator;
GRANT INSERT (lane, action, aggregate_type, aggregate_id, msg_id, reason) ON outbox_parked_audit TO relay_operator;

-- In the partitioned layout the relay adds and drops partitions through functions of the owner. The
-- partitions themselves belong to the owner alone: what is read and written goes through the table
-- as a whole.
DO $$
BEGIN
    IF to_regprocedure('outbox_partitions()') IS NOT NULL THEN
        REVOKE ALL ON FUNCTION outbox_add_partition(int), outbox_empty_partition(pg_snapshot, bigint, interval),
            outbox_drop_partition() FROM outbox_writer;
        GRANT EXECUTE ON FUNCTION outbox_add_partition(int), outbox_empty_partition(pg_snapshot, bigint, interval),
            outbox_drop_partition() TO relay;
    END IF;
END
$$;
