DROP TABLE relay_recoveries;
ALTER TABLE relay_lanes
    DROP COLUMN batch_owner,
    DROP COLUMN batch_epoch,
    DROP COLUMN confirmed_seq,
    DROP COLUMN confirmed_from,
    DROP COLUMN confirmed_to,
    DROP COLUMN confirmed_last_id;
