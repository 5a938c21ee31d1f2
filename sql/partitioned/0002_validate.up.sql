-- Step 2: reads the whole table once to prove that no row is beyond the bound. No session waits for
-- it.
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_before_partitions;
