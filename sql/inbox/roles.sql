-- Least-privilege roles for the inbox in the schema of the search_path. Not a migration: nothing
-- applies it by itself. Run it in psql as the owner of the tables, who may create roles; again
-- after a new version; as often as you like:
--
--     psql -1 -v ON_ERROR_STOP=1 -f roles.sql
--     GRANT inbox_consumer TO my_service;
--     GRANT inbox_operator TO ada;
--
-- Roles belong to the whole cluster: in several databases or schemas the same roles get their
-- rights one by one. What the roles hold on these tables and functions beyond the list below is
-- taken away.
--
-- A DATABASE IS ONE DOMAIN OF TRUST: inbox_consumer is for every consumer in it. A member can
-- remove marks of another consumer, and set its retention. Because the roles are those of the whole
-- cluster, a member can do so in every database of the cluster that has an inbox and lets it
-- connect. Services that do not trust each other need a database each, to which only their own
-- logins may connect:
--
--     REVOKE CONNECT ON DATABASE billing FROM PUBLIC;
--     GRANT CONNECT ON DATABASE billing TO billing_service;

DO $$
BEGIN
    -- Two at once may both find no role; the slower one then finds it made.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'inbox_consumer') THEN
        BEGIN
            CREATE ROLE inbox_consumer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'inbox_operator') THEN
        BEGIN
            CREATE ROLE inbox_operator NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO inbox_consumer, inbox_operator', current_schema());
END
$$;

REVOKE ALL ON inbox, inbox_consumers, inbox_parked_keys, inbox_parked, inbox_started, inbox_sessions, inbox_claims, inbox_audit, inbox_sweeps,
    inbox_incarnation, inbox_retentions
FROM inbox_consumer, inbox_operator;
REVOKE ALL ON FUNCTION inbox_weeks(), inbox_consumers_in(regclass), inbox_estimate(), inbox_retention_of(regclass),
    inbox_try_sweep(), inbox_retain(text, interval, text[]), inbox_add_weeks(int, bigint), inbox_empty_week(), inbox_delete_marks(int, int),
    inbox_delete_started(), inbox_drop_weeks()
FROM inbox_consumer, inbox_operator;

-- A service that consumes marks what it has handled, and takes back the mark of an effect of which
-- it is certain that it did not happen. It cannot say when: retention rests on that.
GRANT SELECT, DELETE ON inbox TO inbox_consumer;
GRANT INSERT (consumer, source, msg_id) ON inbox TO inbox_consumer;

-- It parks messages, and handles them after all if a retry is asked for. It does not ask.
GRANT SELECT, DELETE ON inbox_parked_keys, inbox_parked TO inbox_consumer;
GRANT INSERT (consumer, topic, key) ON inbox_parked_keys TO inbox_consumer;
GRANT UPDATE (requested_at, requested_by, reason) ON inbox_parked_keys TO inbox_consumer;
GRANT INSERT (key_id, source, msg_id, type, partition, "offset", record_time, header_names, header_values, payload, cause, error, attempts)
    ON inbox_parked TO inbox_consumer;
GRANT UPDATE (error, attempts) ON inbox_parked TO inbox_consumer;

-- What it keeps about itself.
GRANT SELECT, DELETE ON inbox_started, inbox_sessions, inbox_claims TO inbox_consumer;
GRANT INSERT (consumer, source, msg_id), UPDATE (starts, started_at) ON inbox_started TO inbox_consumer;
GRANT INSERT (consumer, topic, partition, instance), UPDATE (instance, opened_at) ON inbox_sessions TO inbox_consumer;
GRANT INSERT (consumer, source, msg_id, instance), UPDATE (error, seen_at) ON inbox_claims TO inbox_consumer;
GRANT INSERT (consumer, action, topic, key, source, msg_id, details) ON inbox_audit TO inbox_consumer;

-- It begins an incarnation if a crash has ended the one before. It cannot say which.
GRANT SELECT, INSERT (single) ON inbox_incarnation TO inbox_consumer;

-- Every role may execute a new function unless the database says otherwise; the first two are for
-- one that does.
GRANT EXECUTE ON FUNCTION inbox_key(text), inbox_accept(text, text, text), inbox_retain(text, interval, text[]), inbox_add_weeks(int, bigint),
    inbox_empty_week(), inbox_delete_marks(int, int), inbox_delete_started(), inbox_drop_weeks()
TO inbox_consumer;

-- People look at everything, ask for retries, discard what is parked, settle claims, and remove
-- marks so that a message is handled again. Who did it is the default of inbox_audit.by, and no
-- role changes or removes an entry there.
GRANT SELECT ON inbox, inbox_consumers, inbox_parked_keys, inbox_parked, inbox_started, inbox_sessions, inbox_claims, inbox_audit,
    inbox_retentions TO inbox_operator;
GRANT UPDATE (requested_at, requested_by, reason) ON inbox_parked_keys TO inbox_operator;
GRANT DELETE ON inbox, inbox_parked_keys, inbox_parked, inbox_claims TO inbox_operator;
GRANT INSERT (consumer, action, topic, key, source, msg_id, reason, details) ON inbox_audit TO inbox_operator;
GRANT EXECUTE ON FUNCTION inbox_key(text), inbox_estimate(), inbox_add_weeks(int, bigint), inbox_empty_week(), inbox_delete_marks(int, int),
    inbox_delete_started(), inbox_drop_weeks()
TO inbox_operator;
