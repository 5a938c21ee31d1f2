-- Removes the outbox and every event in it, published or not.
DROP TABLE outbox;
DROP FUNCTION outbox_refuse_row();
DROP FUNCTION outbox_uuidv7();
DROP DOMAIN outbox_xact_id;
DROP DOMAIN outbox_headers;
DROP DOMAIN outbox_topic;
DROP DOMAIN outbox_key;
DROP DOMAIN outbox_name;
-- Of the partitioned layout, if it was chosen.
DROP FUNCTION IF EXISTS outbox_drop_partition();
DROP FUNCTION IF EXISTS outbox_empty_partition(pg_snapshot, bigint, interval);
DROP FUNCTION IF EXISTS outbox_add_partition(int);
DROP FUNCTION IF EXISTS outbox_private(regclass);
DROP FUNCTION IF EXISTS outbox_partitions();
DROP FUNCTION IF EXISTS outbox_partition_rows();
