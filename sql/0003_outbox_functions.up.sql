-- Writing events from triggers, and from languages without a library.
-- Runs in psql as it is; every object is created in the first schema of the search_path.

-- The functions run with the caller's rights, who needs no more than INSERT: msg_id is made first
-- and returned without reading the row back, since INSERT .. RETURNING would need SELECT. In
-- plpgsql, and not in SQL, because a session then plans the insert once: 1 microsecond a call over
-- the bare INSERT, against 25 to 40 before Postgres 18. Without a topic the column is left out,
-- since the caller may have no right to it.
CREATE FUNCTION outbox_write(
    aggregate_type text,
    aggregate_id   text,
    type           text,
    payload        jsonb,
    headers        jsonb DEFAULT NULL,
    topic          text  DEFAULT NULL
) RETURNS uuid
    LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    made uuid := "{schema}".outbox_uuidv7();
BEGIN
    IF outbox_write.topic IS NULL THEN
        INSERT INTO "{schema}".outbox (msg_id, aggregate_type, aggregate_id, type, payload, headers)
        VALUES (made, outbox_write.aggregate_type, outbox_write.aggregate_id, outbox_write.type,
                convert_to(outbox_write.payload::text, 'UTF8'), outbox_write.headers);
        RETURN made;
    END IF;
    INSERT INTO "{schema}".outbox (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers)
    VALUES (made, outbox_write.aggregate_type, outbox_write.aggregate_id, outbox_write.type,
            outbox_write.topic, convert_to(outbox_write.payload::text, 'UTF8'), outbox_write.headers);
    RETURN made;
END
$$;

-- Another name, and not a second form of outbox_write: with two forms, a call whose payload is
-- a plain literal or NULL would fail as ambiguous.
CREATE FUNCTION outbox_write_bytes(
    aggregate_type text,
    aggregate_id   text,
    type           text,
    payload        bytea,
    headers        jsonb DEFAULT NULL,
    topic          text  DEFAULT NULL
) RETURNS uuid
    LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    made uuid := "{schema}".outbox_uuidv7();
BEGIN
    IF outbox_write_bytes.topic IS NULL THEN
        INSERT INTO "{schema}".outbox (msg_id, aggregate_type, aggregate_id, type, payload, headers)
        VALUES (made, outbox_write_bytes.aggregate_type, outbox_write_bytes.aggregate_id, outbox_write_bytes.type,
                outbox_write_bytes.payload, outbox_write_bytes.headers);
        RETURN made;
    END IF;
    INSERT INTO "{schema}".outbox (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers)
    VALUES (made, outbox_write_bytes.aggregate_type, outbox_write_bytes.aggregate_id, outbox_write_bytes.type,
            outbox_write_bytes.topic, outbox_write_bytes.payload, outbox_write_bytes.headers);
    RETURN made;
END
$$;

-- One transaction at a time may hold an aggregate; the lock ends with the transaction. The hash of
-- the type is the seed of the hash of the id, so that ('a', 'bc') and ('ab', 'c') are two locks,
-- which a hash of the two joined would not be. The collation makes equal bytes, and only those, one
-- aggregate. Two aggregates that share a hash wait for each other for nothing, and lose nothing. A
-- NULL would pass through every function here and lock nothing: it is refused.
CREATE FUNCTION outbox_lock_aggregate(aggregate_type text, aggregate_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF aggregate_type IS NULL OR aggregate_id IS NULL THEN
        RAISE EXCEPTION 'outbox_lock_aggregate: aggregate_type and aggregate_id must not be null'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM pg_advisory_xact_lock(
        hashtextextended(aggregate_id COLLATE "C", hashtextextended(aggregate_type COLLATE "C", 0)));
END
$$;

-- Names in these bodies are looked up at each call, with the path that is pinned here: the server's
-- own schema and no other. So a caller with another search_path, or with a temporary table named
-- outbox, still writes to the table of this schema, and a function or operator that somebody made
-- in this schema is never taken for one of the server. The names of this schema are written out:
-- "{schema}" is written for it above, and the block puts its name there.
--
-- ALTER SCHEMA .. RENAME does not change them: docs/security.md says how to write the new name into
-- them.
DO $$
DECLARE
    home   text := quote_ident(current_schema());
    callee regprocedure;
BEGIN
    FOREACH callee IN ARRAY ARRAY['outbox_write(text, text, text, jsonb, jsonb, text)',
                                  'outbox_write_bytes(text, text, text, bytea, jsonb, text)',
                                  'outbox_lock_aggregate(text, text)']::regprocedure[] LOOP
        EXECUTE replace(pg_get_functiondef(callee), '"{schema}"', home);
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', callee);
    END LOOP;
END
$$;

COMMENT ON FUNCTION outbox_write(text, text, text, jsonb, jsonb, text) IS
    'Writes an event and returns its msg_id. The payload is stored as the UTF-8 text of the JSON; NULL is a tombstone.';
COMMENT ON FUNCTION outbox_write_bytes(text, text, text, bytea, jsonb, text) IS
    'Writes an event and returns its msg_id. The payload is stored byte for byte; NULL is a tombstone.';
COMMENT ON FUNCTION outbox_lock_aggregate(text, text) IS
    'Locks the aggregate until the transaction ends, for writers that have no row of it to lock. Call it before the insert.';
