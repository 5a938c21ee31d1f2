-- The outbox: one row an event, written in the transaction of the business rows that it tells of.
-- Runs in psql as it is; every object is created in the first schema of the search_path.

-- A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random bits. Postgres 18 has
-- uuidv7(); this one works on every supported version. Not monotonic inside a millisecond: nothing
-- in the relay orders by it. It starts from a random UUID of version 4, whose variant bits are
-- right already; two more bits turn version 4 into 7.
CREATE FUNCTION outbox_uuidv7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN encode(
        set_bit(
            set_bit(
                overlay(uuid_send(gen_random_uuid())
                        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                        FROM 1 FOR 6),
                52, 1),
            53, 1),
        'hex')::uuid;
COMMENT ON FUNCTION outbox_uuidv7() IS 'A UUID of version 7 made from the clock of the statement and random bits.';

-- Checks are in domains and not on the columns, because Postgres reads the checks of a table again
-- for each INSERT, which costs the writer 4 to 5 microseconds a row (measured on 15), and keeps
-- those of a domain.
--
-- The bounds keep a row small enough to be handled one by one: a key that an index can hold, a
-- topic that Kafka allows, headers that fit a record. Package outbox has the same.
CREATE DOMAIN outbox_name AS text CONSTRAINT outbox_name_must_have_1_to_255_bytes
    CHECK (VALUE <> '' AND octet_length(VALUE) <= 255);
COMMENT ON DOMAIN outbox_name IS 'A text of 1 to 255 bytes.';
CREATE DOMAIN outbox_key AS text CONSTRAINT outbox_key_must_have_1_to_1024_bytes
    CHECK (VALUE <> '' AND octet_length(VALUE) <= 1024);
COMMENT ON DOMAIN outbox_key IS 'A text of 1 to 1,024 bytes.';
CREATE DOMAIN outbox_topic AS text CONSTRAINT outbox_topic_must_have_1_to_249_bytes
    CHECK (VALUE <> '' AND octet_length(VALUE) <= 249);
COMMENT ON DOMAIN outbox_topic IS 'A text of 1 to 249 bytes, as Kafka allows for a topic.';
CREATE DOMAIN outbox_headers AS jsonb CONSTRAINT outbox_headers_must_be_an_object_of_at_most_64_kib
    CHECK (jsonb_typeof(VALUE) = 'object' AND octet_length(VALUE::text) <= 65536);
COMMENT ON DOMAIN outbox_headers IS 'A JSON object, at most 65,536 bytes as text.';

-- A row belongs to the transaction that inserts it: only then does the relay see it once, and know
-- it to be published when it removes it. A row with the id of a transaction that ended long ago
-- would never be published, and be removed as if it had been; one with an id yet to come would be
-- new at every look. So whatever is loaded with the column xact_id is refused: a data-only restore,
-- rows that logical replication brings, an INSERT that writes the column. NOT VALID makes pg_dump
-- add the constraint after the data, so that a dump of the whole database can be restored; rows
-- that exist are not checked, nor is an UPDATE of other columns.
CREATE DOMAIN outbox_xact_id AS xid8;
ALTER DOMAIN outbox_xact_id ADD CONSTRAINT outbox_xact_id_must_be_of_this_transaction
    CHECK (VALUE = pg_current_xact_id()) NOT VALID;
COMMENT ON DOMAIN outbox_xact_id IS 'The id of the transaction that inserts the row.';

CREATE TABLE outbox (
    -- CACHE 1: a session that cached ids would insert with an old id after it locked the aggregate,
    -- and invert its order.
    id             bigint         GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    msg_id         uuid           NOT NULL DEFAULT outbox_uuidv7(),
    aggregate_type outbox_name    NOT NULL,
    aggregate_id   outbox_key     NOT NULL,
    type           outbox_name    NOT NULL,
    topic          outbox_topic       NULL,
    payload        bytea              NULL,
    headers        outbox_headers     NULL,
    created_at     timestamptz    NOT NULL DEFAULT clock_timestamp(),
    -- The top-level transaction id. Never the system column xmin: that one holds the id of a
    -- subtransaction after a savepoint, and it is 32 bits wide.
    xact_id        outbox_xact_id NOT NULL DEFAULT pg_current_xact_id()
);

-- The domain does not see what it already is: INSERT INTO outbox SELECT * FROM a copy of it. This
-- trigger does. Its function runs only for a row that is refused; the condition costs an INSERT
-- about 1 microsecond. ALWAYS: also for what replication brings.
CREATE FUNCTION outbox_refuse_row() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'row % of % has the xact_id %, and this is transaction %: it would never be published, or again and again',
        NEW.id, TG_TABLE_NAME, NEW.xact_id, pg_current_xact_id()
        USING ERRCODE = 'check_violation', HINT = 'Leave out the columns id, xact_id and created_at: their defaults are right.';
END
$$;
COMMENT ON FUNCTION outbox_refuse_row() IS 'Refuses a row that bears the id of another transaction.';
CREATE TRIGGER outbox_own_transaction AFTER INSERT ON outbox
    FOR EACH ROW WHEN (NEW.xact_id <> pg_current_xact_id()) EXECUTE FUNCTION outbox_refuse_row();
ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_own_transaction;

-- The relay finds the rows that became visible since its last snapshot through this index; id
-- is in it so that the least id of a large window is found without a visit to the table.
CREATE INDEX outbox_xact_id_idx ON outbox (xact_id, id);

COMMENT ON TABLE outbox IS 'Events to be published to Kafka, written in the same transaction as the business rows. Read by relay.';
COMMENT ON COLUMN outbox.id IS 'Order of publication inside one window. Drawn after the aggregate is taken, so it orders the events of an aggregate.';
COMMENT ON COLUMN outbox.msg_id IS 'Identity of the message, header msg_id on the record. Consumers record it in their inbox.';
COMMENT ON COLUMN outbox.aggregate_type IS 'Kind of aggregate, such as order. Chooses the topic where topic is null.';
COMMENT ON COLUMN outbox.aggregate_id IS 'Identity of the aggregate; the key of the record. Events of one aggregate stay in order.';
COMMENT ON COLUMN outbox.type IS 'Type of the event, such as OrderPlaced; header type on the record.';
COMMENT ON COLUMN outbox.topic IS 'Topic to publish to, one that the relay allows (topics.allow). Null: its route, by default outbox.event.{aggregate_type}.';
COMMENT ON COLUMN outbox.payload IS 'Value of the record, byte for byte. Null is a tombstone.';
COMMENT ON COLUMN outbox.headers IS 'A JSON object of strings: further headers of the record.';
COMMENT ON COLUMN outbox.created_at IS 'When the row was inserted; header created_at on the record.';
COMMENT ON COLUMN outbox.xact_id IS 'Transaction that wrote the row. Set by its default; do not write it.';
