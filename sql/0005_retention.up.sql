-- Vacuum settings for a table that works as a queue: rows are appended, live for the retention, and
-- are deleted in about the order in which they came. Postgres' defaults suit a table that changes
-- here and there. What they cost and why:
--
--   scale_factor 0.05    vacuum once a twentieth of the rows is dead, not a fifth: dead rows lie together at the old end, and
--                        the space is filled again from there. It is a share and not a fixed number, because each vacuum reads
--                        both indexes as a whole, whose size follows the rows that are retained.
--   threshold 5000       keeps a table that is almost empty (retention 0) from being vacuumed for every few rows.
--   insert_threshold -1  no vacuum for inserts alone: it would freeze rows that are deleted soon.
--   cost_limit 2000      ten times the default pace: a vacuum that falls behind a busy queue never catches up.
--
-- The same for the TOAST table, which holds the large payloads. Runs in psql as it is. A
-- partitioned outbox has no storage, and its partitions come with settings.
DO $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'outbox'::regclass) = 'r' THEN
        ALTER TABLE outbox SET (
            autovacuum_vacuum_scale_factor = 0.05,
            autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_insert_threshold = -1,
            autovacuum_vacuum_cost_limit = 2000,
            toast.autovacuum_vacuum_scale_factor = 0.05,
            toast.autovacuum_vacuum_threshold = 5000,
            toast.autovacuum_vacuum_insert_threshold = -1,
            toast.autovacuum_vacuum_cost_limit = 2000
        );
    END IF;
END
$$;
