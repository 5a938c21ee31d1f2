-- Removes the functions that add and drop partitions, and the bound where step 3 was never taken.
ALTER TABLE outbox DROP CONSTRAINT IF EXISTS outbox_before_partitions;
DROP FUNCTION outbox_drop_partition();
DROP FUNCTION outbox_empty_partition(pg_snapshot, bigint, interval);
DROP FUNCTION outbox_add_partition(int);
DROP FUNCTION outbox_private(regclass);
DROP FUNCTION outbox_partitions();
DROP FUNCTION outbox_partition_rows();
