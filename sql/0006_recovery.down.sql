-- Takes out the record of recoveries and what a lane knows of its last batch. A takeover then
-- compares numbers only.
DROP TABLE relay_recoveries;
ALTER TABLE relay_lanes
    DROP COLUMN batch_owner,
    DROP COLUMN batch_epoch,
    DROP COLUMN confirmed_seq,
    DROP COLUMN confirmed_from,
    DROP COLUMN confirmed_to,
    DROP COLUMN confirmed_last_id;
