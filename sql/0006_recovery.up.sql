-- What a lane knows of its last batch, so that a takeover notices more contradictions, and the
-- record of recoveries. Runs in psql as it is; every object is created in the first schema of the
-- search_path.

-- The sequence number alone does not name a batch: an intent that never became a commit is
-- withdrawn, and its number is used again. The process and the epoch that intended it do.
ALTER TABLE relay_lanes
    ADD COLUMN batch_owner       text        NULL,
    ADD COLUMN batch_epoch       bigint      NULL,
    ADD COLUMN confirmed_seq     bigint      NULL,
    ADD COLUMN confirmed_from    pg_snapshot NULL,
    ADD COLUMN confirmed_to      pg_snapshot NULL,
    ADD COLUMN confirmed_last_id bigint      NULL;

COMMENT ON COLUMN relay_lanes.batch_owner IS 'The process that intended batch seq.';
COMMENT ON COLUMN relay_lanes.batch_epoch IS 'The owner_epoch under which batch seq was intended.';
COMMENT ON COLUMN relay_lanes.confirmed_seq IS 'Sequence number of the last batch that is known to be committed in Kafka: seq, or the one before it.';
COMMENT ON COLUMN relay_lanes.confirmed_from IS 'Progress after the confirmed batch, as snapshot_from.';
COMMENT ON COLUMN relay_lanes.confirmed_to IS 'Progress after the confirmed batch, as snapshot_to.';
COMMENT ON COLUMN relay_lanes.confirmed_last_id IS 'Progress after the confirmed batch, as last_id.';

-- One row a use of relay recover --yes. The row is written before Kafka's checkpoint, and finished
-- with the lane's row.
CREATE TABLE relay_recoveries (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane        text        NOT NULL,
    cause       text        NOT NULL,
    diagnosis   text        NOT NULL,
    choice      text        NOT NULL,
    who         text        NOT NULL,
    why         text        NOT NULL,
    before      jsonb       NOT NULL,
    after       jsonb       NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz     NULL
);

COMMENT ON TABLE relay_recoveries IS 'Who settled a contradiction of a lane, when, how and why. Written by relay recover only.';
COMMENT ON COLUMN relay_recoveries.cause IS 'The kind of the contradiction, such as database-behind.';
COMMENT ON COLUMN relay_recoveries.diagnosis IS 'The contradiction in words.';
COMMENT ON COLUMN relay_recoveries.choice IS 'The choice: kafka, postgres, restart-from or skip-to-now.';
COMMENT ON COLUMN relay_recoveries.who IS 'The person, process and host that ran the command.';
COMMENT ON COLUMN relay_recoveries.why IS 'What --why said.';
COMMENT ON COLUMN relay_recoveries.before IS 'What both logs said.';
COMMENT ON COLUMN relay_recoveries.after IS 'The checkpoint that both logs were given.';
COMMENT ON COLUMN relay_recoveries.finished_at IS 'Null: the command was cut short, and the lane halts until it is run again.';
