-- The relay's own state: one row a lane. The row is the write-ahead record (intent) of the batch in
-- flight, and the fence on the Postgres side; what has been published is decided by the checkpoint
-- topic in Kafka.
CREATE TABLE relay_lanes (
    lane          text        PRIMARY KEY,
    seq           bigint      NOT NULL DEFAULT 0 CHECK (seq >= 0),
    owner_epoch   bigint      NOT NULL DEFAULT 0,
    owner         text            NULL,
    owner_pid     integer         NULL,
    owner_started timestamptz     NULL,
    started       boolean     NOT NULL DEFAULT false,
    snapshot_from pg_snapshot     NULL,
    snapshot_to   pg_snapshot     NULL,
    last_id       bigint          NULL,
    cluster_identity jsonb           NULL,
    state         text        NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'running', 'waiting', 'halted')),
    reason        text            NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
-- Updated once a batch: room on the page keeps the updates heap-only.
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

COMMENT ON TABLE relay_lanes IS 'State of the relay, one row a lane. Written by relay only; relay status shows it.';
COMMENT ON COLUMN relay_lanes.seq IS 'Sequence number of the last batch intended. The last batch committed in Kafka is this one or the one before.';
COMMENT ON COLUMN relay_lanes.owner_epoch IS 'Raised by every takeover; an owner with an older epoch can write nothing.';
COMMENT ON COLUMN relay_lanes.owner IS 'The process that took the lane over last, as host/pid/instance.';
COMMENT ON COLUMN relay_lanes.owner_pid IS 'Backend of the session that runs the lane, or is about to. Who else holds the lane''s advisory lock is no owner.';
COMMENT ON COLUMN relay_lanes.owner_started IS 'When that session began: a number of a backend is used again.';
COMMENT ON COLUMN relay_lanes.started IS 'Set once the first checkpoint of the lane is in Kafka. An empty checkpoint topic after that is a lost one.';
COMMENT ON COLUMN relay_lanes.snapshot_from IS 'Progress after the intended batch: rows visible in this snapshot are published.';
COMMENT ON COLUMN relay_lanes.snapshot_to IS 'End of the window that is being drained, or null where none is open.';
COMMENT ON COLUMN relay_lanes.last_id IS 'Rows of the open window up to this id are published.';
COMMENT ON COLUMN relay_lanes.cluster_identity IS 'Which server, database and cluster the lane belongs to.';
COMMENT ON COLUMN relay_lanes.state IS 'What the owner last said of the lane: new, running, waiting or halted.';
COMMENT ON COLUMN relay_lanes.reason IS 'Why the lane waits or has halted, and what to do about it.';
COMMENT ON COLUMN relay_lanes.updated_at IS 'When the owner last wrote this row.';

-- What a lane is bound to. It changes with a takeover at most, so it stands apart from the row that
-- is written once a batch.
CREATE TABLE relay_bindings (
    lane             text        PRIMARY KEY,
    -- One table has one lane: two would send each of its events twice.
    table_oid        oid         NOT NULL CONSTRAINT relay_bindings_table_oid_key UNIQUE,
    table_name       text        NOT NULL,
    settings         jsonb       NOT NULL,
    settings_by      text        NOT NULL,
    settings_changed text            NULL,
    bound_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE relay_bindings IS 'The table and the settings of each lane, one row a lane. Written by relay at a takeover.';
COMMENT ON COLUMN relay_bindings.table_oid IS 'The table that the lane publishes. A takeover with another one halts; the change of layout takes the lane along.';
COMMENT ON COLUMN relay_bindings.table_name IS 'Its schema and name when the lane was taken over last.';
COMMENT ON COLUMN relay_bindings.settings IS 'Settings of the last owner that say where and whether a row goes. All replicas should have the same.';
COMMENT ON COLUMN relay_bindings.settings_by IS 'The process whose settings they are.';
COMMENT ON COLUMN relay_bindings.settings_changed IS 'When they changed last, by whom, and from what to what.';
COMMENT ON COLUMN relay_bindings.bound_at IS 'When the lane was taken over last.';
