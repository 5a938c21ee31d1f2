-- Back to the vacuum settings of the server.
DO $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'outbox'::regclass) = 'r' THEN
        ALTER TABLE outbox RESET (
            autovacuum_vacuum_scale_factor,
            autovacuum_vacuum_threshold,
            autovacuum_vacuum_insert_threshold,
            autovacuum_vacuum_cost_limit,
            toast.autovacuum_vacuum_scale_factor,
            toast.autovacuum_vacuum_threshold,
            toast.autovacuum_vacuum_insert_threshold,
            toast.autovacuum_vacuum_cost_limit
        );
    END IF;
END
$$;
