-- The inbox: one mark a message, written in the transaction of the business rows that the message
-- changes. Runs in psql as it is; every object is created in the first schema of the search_path.

-- The identity of a message as a UUID. A UUID of version 7 is kept as it is. Everything else, and
-- every other version, is hashed (SHA-256) into a UUID of version 8 whose first bit is set: it can
-- lie in no range of time before the year 6429, so that no partition of a week holds a mark that
-- its ids say nothing about. Package inbox computes the same.
CREATE FUNCTION inbox_key(message_id text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE
        WHEN message_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' THEN message_id::uuid
        ELSE (
            SELECT encode(
                set_byte(set_byte(set_byte(hash, 0, get_byte(hash, 0) | 128),
                    6, (get_byte(hash, 6) & 15) | 128),
                    8, (get_byte(hash, 8) & 63) | 128),
                'hex')::uuid
            FROM (SELECT substring(sha256(convert_to(
                CASE WHEN message_id ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN lower(message_id) ELSE message_id END,
                'UTF8')) FOR 16) AS hash) AS digest)
    END;
COMMENT ON FUNCTION inbox_key(text) IS 'The identity of a message as it stands in inbox.msg_id: a UUIDv7 itself, anything else hashed.';

-- The least UUIDv7 of a moment: the bound of a partition.
CREATE FUNCTION inbox_floor(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN rpad(lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
COMMENT ON FUNCTION inbox_floor(timestamptz) IS 'The least UUID of version 7 that was made at a moment or later.';

-- consumer and source are in the key because two services may both send an id 1, and two
-- consumers both handle it. COLLATE "C": names are compared byte by byte, which is fast and the
-- same on every system.
CREATE TABLE inbox (
    consumer   text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    msg_id     uuid             NOT NULL,
    handled_at timestamptz      NOT NULL DEFAULT now(),
    -- source last: the id before it decides nearly every comparison, and new ids go to the end of
    -- their consumer.
    PRIMARY KEY (consumer, msg_id, source)
) PARTITION BY RANGE (msg_id);
COMMENT ON TABLE inbox IS 'Marks of messages whose effect is in this database, or that are parked. Written in the same transaction.';
COMMENT ON COLUMN inbox.consumer IS 'Who handled the message: a name of the consuming service, the same for all of its processes.';
COMMENT ON COLUMN inbox.source IS 'Who sent it: ids of two sources have nothing to do with one another.';
COMMENT ON COLUMN inbox.msg_id IS 'inbox_key() of the id of the message.';
COMMENT ON COLUMN inbox.handled_at IS 'When the transaction that handled the message began.';

-- A range of ids is one partition, so an id is unique over all partitions. No id is without one:
-- older ids than the first week are in inbox_past, newer ones than the last week in inbox_ahead,
-- and hashed ids in inbox_hashed.
CREATE TABLE inbox_past PARTITION OF inbox
    FOR VALUES FROM (MINVALUE) TO ('00000000-0000-0000-0000-000000000001');
CREATE TABLE inbox_ahead PARTITION OF inbox
    FOR VALUES FROM ('00000000-0000-0000-0000-000000000001') TO ('80000000-0000-0000-0000-000000000000');
CREATE TABLE inbox_hashed PARTITION OF inbox
    FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- What is known of each consumer whose marks are removed after a time. Marks of others are kept for
-- ever.
CREATE TABLE inbox_consumers (
    consumer   text COLLATE "C" PRIMARY KEY,
    retention  interval             NULL CHECK (retention > interval '0'),
    changed_at timestamptz      NOT NULL DEFAULT now()
);
COMMENT ON TABLE inbox_consumers IS 'How long the marks of each consumer are kept. One that is not here keeps its marks forever.';
COMMENT ON COLUMN inbox_consumers.retention IS 'Marks older than this are removed; null keeps them forever. See inbox_retain().';

-- A key some of whose messages are parked. All later messages of the key are parked behind them, in
-- order. A session that adds a message locks the row FOR KEY SHARE, by the foreign key. One that
-- takes messages out again locks it FOR NO KEY UPDATE, which excludes only others that do so. And
-- one that removes the row, once nothing is parked, locks it FOR UPDATE.
CREATE TABLE inbox_parked_keys (
    id           bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer     text COLLATE "C" NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    key          bytea                NULL,
    parked_at    timestamptz      NOT NULL DEFAULT clock_timestamp(),
    requested_at timestamptz          NULL,
    requested_by text                 NULL,
    reason       text                 NULL
);
-- By its hash: a key may be longer than an entry of an index can be.
CREATE UNIQUE INDEX inbox_parked_keys_key_idx ON inbox_parked_keys (consumer, topic, sha256(key));
CREATE INDEX inbox_parked_keys_requested_idx ON inbox_parked_keys (consumer, requested_at) WHERE requested_at IS NOT NULL;
COMMENT ON TABLE inbox_parked_keys IS 'Keys of which messages are parked. See relay inbox parked.';
COMMENT ON COLUMN inbox_parked_keys.key IS 'The key of the record. Null: a message without a key, which waits alone.';
COMMENT ON COLUMN inbox_parked_keys.requested_at IS 'Since when a retry is asked for; the consumer carries it out, and then it is null again.';

CREATE TABLE inbox_parked (
    id            bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id        bigint           NOT NULL REFERENCES inbox_parked_keys (id),
    source        text COLLATE "C" NOT NULL,
    msg_id        text             NOT NULL,
    type          text             NOT NULL,
    partition     integer          NOT NULL,
    "offset"      bigint           NOT NULL,
    record_time   timestamptz          NULL,
    header_names  bytea[]          NOT NULL,
    header_values bytea[]          NOT NULL,
    payload       bytea                NULL,
    cause         text             NOT NULL CHECK (cause IN ('permanent', 'attempts', 'crash', 'identity', 'size', 'behind')),
    error         text                 NULL,
    attempts      integer          NOT NULL DEFAULT 0,
    parked_at     timestamptz      NOT NULL DEFAULT clock_timestamp()
);
-- The queue of a key, in order.
CREATE INDEX inbox_parked_queue_idx ON inbox_parked (key_id, id);
COMMENT ON TABLE inbox_parked IS 'Messages that could not be handled, and later ones of the same key, in order of id. See relay inbox parked.';
COMMENT ON COLUMN inbox_parked.msg_id IS 'The id as the message has it; its mark is in inbox, so a second copy is skipped.';
COMMENT ON COLUMN inbox_parked."offset" IS 'Where the record was, in the topic of the key; -1 if it came from no topic.';
COMMENT ON COLUMN inbox_parked.header_names IS 'The headers of the record in their order; the values are in header_values.';
COMMENT ON COLUMN inbox_parked.cause IS
    'permanent: the handler says that it can never be handled. attempts: it failed as often as the consumer allows. '
    'crash: the process ended while it was handled, again and again. identity: it has no id to recognise it by. '
    'size: a batch of records that was not read, since it would take too much memory. '
    'behind: an earlier message of its key waits.';
COMMENT ON COLUMN inbox_parked.attempts IS 'How often it was tried.';

-- Messages of which it is recorded that their handler was started: after a crash, and for as long
-- as it is not known which message it was. The row goes in the transaction of the effect.
CREATE TABLE inbox_started (
    consumer   text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    msg_id     uuid             NOT NULL,
    starts     integer          NOT NULL DEFAULT 1,
    started_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, source, msg_id)
);
COMMENT ON TABLE inbox_started IS 'Messages whose handler was started and, unless it runs right now, ended with its process.';

-- Partitions that a process works on. A row that its process did not remove tells the next one
-- of a crash.
CREATE TABLE inbox_sessions (
    consumer  text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition integer          NOT NULL,
    instance  text             NOT NULL,
    opened_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, topic, partition)
);
COMMENT ON TABLE inbox_sessions IS 'Partitions that a process works on, or worked on until it ended without notice.';

-- One row that a crash removes. Postgres empties an unlogged table when it recovers from a
-- crash, of the server or of one of its processes, and a standby that is promoted has none of its
-- rows; a restart in good order keeps them. So as long as the row is the same, no commit was
-- forgotten, even an asynchronous one.
CREATE UNLOGGED TABLE inbox_incarnation (
    single boolean     PRIMARY KEY DEFAULT true CHECK (single),
    id     bigint      NOT NULL DEFAULT hashtextextended(gen_random_uuid()::text, 0),
    since  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE inbox_incarnation IS
    'One row for the time since Postgres crashed or was promoted last. It must stay unlogged: it is empty afterwards by that.';

-- Effects that no database rolls back: claimed before they begin, and no longer here once they are
-- done.
CREATE TABLE inbox_claims (
    consumer   text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    msg_id     uuid             NOT NULL,
    instance   text             NOT NULL,
    claimed_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    error      text                 NULL,
    seen_at    timestamptz          NULL,
    PRIMARY KEY (consumer, source, msg_id)
);
COMMENT ON COLUMN inbox_claims.seen_at IS
    'When the message was seen again and passed, as one whose effect is unknown: no other process will bring it back.';
COMMENT ON TABLE inbox_claims IS 'Effects that were begun and are not known to be done: no process begins them again.';

CREATE TABLE inbox_audit (
    id       bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    consumer text COLLATE "C" NOT NULL,
    action   text             NOT NULL CHECK (action IN ('unknown', 'retry', 'retried', 'discard', 'forget', 'settle')),
    topic    text COLLATE "C"     NULL,
    key      bytea                NULL,
    source   text COLLATE "C"     NULL,
    msg_id   text                 NULL,
    by       text             NOT NULL DEFAULT session_user,
    reason   text                 NULL,
    details  jsonb                NULL
);
CREATE INDEX inbox_audit_consumer_idx ON inbox_audit (consumer, id);
COMMENT ON TABLE inbox_audit IS 'What people asked for and what came of it, and messages whose effect may have happened or not.';
COMMENT ON COLUMN inbox_audit.action IS
    'unknown: an effect that is claimed and not done was seen again, and not begun again. '
    'retry, discard, forget, settle: somebody asked for it; '
    'settle also: what the process that had begun an effect said of it after somebody else had noted it as unknown. '
    'retried: what came of a retry.';

-- Marks a message as handled, for consumers in other languages: call it first in the transaction of
-- the business write. True: it is the first time, go on. False: it was handled before, so roll back
-- or commit without the effect. A concurrent transaction that handles the same message is waited
-- for.
CREATE FUNCTION inbox_accept(consumer text, source text, msg_id text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(inbox_accept.consumer, '') = '' OR coalesce(inbox_accept.source, '') = '' OR coalesce(inbox_accept.msg_id, '') = '' THEN
        RAISE EXCEPTION 'inbox_accept: consumer, source and msg_id must not be empty' USING ERRCODE = '22023';
    END IF;
    INSERT INTO "{schema}".inbox (consumer, source, msg_id)
    VALUES (inbox_accept.consumer, inbox_accept.source, "{schema}".inbox_key(inbox_accept.msg_id))
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Names in the body are looked up at each call, with the path that is pinned here: the server's own
-- schema and no other. So a caller with another search_path, or with a temporary table named inbox,
-- still writes to the table of this schema, and a function or operator that somebody made in this
-- schema is never taken for one of the server. The names of this schema are written out: "{schema}"
-- is written for it above, and the block puts its name there. ALTER SCHEMA .. RENAME does not
-- change them: docs/security.md says how to write the new name into them.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('inbox_accept(text, text, text)'::regprocedure), '"{schema}"', quote_ident(current_schema()));
    ALTER FUNCTION inbox_accept(text, text, text) SET search_path = pg_catalog, pg_temp;
END
$$;
COMMENT ON FUNCTION inbox_accept(text, text, text) IS
    'Marks a message as handled in this transaction. True where it is the first time; false where it was handled before.';
