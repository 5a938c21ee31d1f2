-- Step 2: reads the whole table once to prove that no row lies beyond the bound. Nobody waits for it.
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_before_partitions;
