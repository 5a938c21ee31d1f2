-- Parking: events that Kafka refuses, and those behind them, wait here in order until a person has
-- decided. Runs in psql as it is; every object is created in the first schema of the search_path.

-- Which partition of the checkpoint topic a lane has. It is given once, so the order of the lanes
-- in the configuration is free.
ALTER TABLE relay_lanes ADD COLUMN partition integer NULL CHECK (partition >= 0);
UPDATE relay_lanes SET partition = numbered.place - 1
FROM (SELECT lane, row_number() OVER (ORDER BY lane) AS place FROM relay_lanes) AS numbered
WHERE numbered.lane = relay_lanes.lane;
ALTER TABLE relay_lanes ADD CONSTRAINT relay_lanes_partition_key UNIQUE (partition);
COMMENT ON COLUMN relay_lanes.partition IS 'Partition of the checkpoint topic that holds the checkpoints of the lane.';

-- What was asked for of parked events, by whom and why; and what came of it. The relay carries out
-- what is not done.
CREATE TABLE outbox_parked_audit (
    request        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane           text        NOT NULL,
    action         text        NOT NULL CHECK (action IN ('retry', 'discard', 'skip')),
    aggregate_type text        NOT NULL,
    aggregate_id   text        NOT NULL,
    msg_id         uuid            NULL,
    requested_by   text        NOT NULL DEFAULT session_user,
    reason         text        NOT NULL CHECK (reason <> ''),
    requested_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_seq       bigint          NULL,
    done_at        timestamptz     NULL,
    events         bigint      NOT NULL DEFAULT 0,
    outcome        text            NULL
);
CREATE INDEX outbox_parked_audit_open_idx ON outbox_parked_audit (lane, request) WHERE done_seq IS NULL;

-- Rows are copied from the outbox, so its retention does not touch them.
CREATE TABLE outbox_parked (
    place          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane           text        NOT NULL,
    id             bigint      NOT NULL,
    msg_id         uuid        NOT NULL,
    aggregate_type text        NOT NULL,
    aggregate_id   text        NOT NULL,
    type           text        NOT NULL,
    topic          text            NULL,
    payload        bytea           NULL,
    headers        jsonb           NULL,
    created_at     timestamptz NOT NULL,
    seq            bigint      NOT NULL,
    cause          text        NOT NULL CHECK (cause IN ('refused', 'topic', 'behind')),
    error          text            NULL,
    attempts       integer     NOT NULL DEFAULT 0,
    parked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_seq   bigint          NULL,
    request        bigint          NULL,
    -- The id alone names no row: TRUNCATE outbox RESTART IDENTITY gives it a second time.
    UNIQUE (lane, id, msg_id)
);
-- The queue of one aggregate, in the order in which it is to be published. A hash is used for the
-- aggregate, because an index entry has 2,704 bytes at most, and whatever the outbox holds must
-- find room here. Two aggregates may share one: compare the columns as well.
CREATE INDEX outbox_parked_queue_idx ON outbox_parked
    (lane, hashtextextended(aggregate_id COLLATE "C", hashtextextended(aggregate_type COLLATE "C", 0)), seq, id) WHERE released_seq IS NULL;
-- What a batch that never became a commit has parked or released is undone by its number.
CREATE INDEX outbox_parked_seq_idx ON outbox_parked (lane, seq);
CREATE INDEX outbox_parked_released_idx ON outbox_parked (lane, released_seq) WHERE released_seq IS NOT NULL;

COMMENT ON TABLE outbox_parked IS 'Events that could not be published, and later ones of the same aggregate, in order. See relay parked.';
COMMENT ON COLUMN outbox_parked.place IS 'Names the parked row.';
COMMENT ON COLUMN outbox_parked.id IS 'The id of the row in the outbox. With msg_id it names that row.';
COMMENT ON COLUMN outbox_parked.seq IS 'The batch of the lane that parked the row; the queue of an aggregate is in the order of (seq, id).';
COMMENT ON COLUMN outbox_parked.cause IS
    'refused: this row can never be sent as it is. topic: its topic is unavailable; it goes out by itself once the topic is back. '
    'behind: an earlier row of its aggregate waits.';
COMMENT ON COLUMN outbox_parked.error IS 'Why, for refused and topic.';
COMMENT ON COLUMN outbox_parked.attempts IS 'How often the row was refused.';
COMMENT ON COLUMN outbox_parked.released_seq IS 'The batch that publishes or discards the row; it is deleted once that batch is committed.';
COMMENT ON COLUMN outbox_parked.request IS 'The request in outbox_parked_audit that released the row; null where the relay did so by itself.';

COMMENT ON TABLE outbox_parked_audit IS 'Requests to publish or discard parked events, and events that were skipped: who, why, and what came of it.';
COMMENT ON COLUMN outbox_parked_audit.action IS 'retry and discard are asked for by people; skip is the policy of that name.';
COMMENT ON COLUMN outbox_parked_audit.msg_id IS 'The one event meant; null for all that are parked of the aggregate.';
COMMENT ON COLUMN outbox_parked_audit.done_seq IS 'The batch that carries it out; null while it is open.';
COMMENT ON COLUMN outbox_parked_audit.events IS 'How many events were published or discarded.';
