-- Removes the retention of the inbox. Marks stay: those of the weeks move to inbox_ahead, which
-- takes time if there are many.
DO $$
DECLARE
    week regclass;
BEGIN
    LOCK TABLE ONLY inbox IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE inbox DETACH PARTITION inbox_past;
    ALTER TABLE inbox DETACH PARTITION inbox_ahead;
    FOR week IN SELECT partition FROM inbox_weeks() LOOP
        EXECUTE format('ALTER TABLE inbox DETACH PARTITION %s', week);
        EXECUTE format('INSERT INTO inbox_ahead SELECT * FROM %s', week);
        EXECUTE format('DROP TABLE %s', week);
    END LOOP;
    INSERT INTO inbox_ahead SELECT * FROM inbox_past;
    TRUNCATE inbox_past;
    ALTER TABLE inbox_past DROP CONSTRAINT IF EXISTS inbox_past_bound;
    ALTER TABLE inbox ATTACH PARTITION inbox_past
        FOR VALUES FROM (MINVALUE) TO ('00000000-0000-0000-0000-000000000001');
    ALTER TABLE inbox ATTACH PARTITION inbox_ahead
        FOR VALUES FROM ('00000000-0000-0000-0000-000000000001') TO ('80000000-0000-0000-0000-000000000000');
    EXECUTE 'DROP TABLE inbox_sweeps, inbox_retentions'; -- how far the search for old marks is, and who wants them
END
$$;
DROP FUNCTION inbox_drop_weeks();
DROP FUNCTION inbox_delete_started();
DROP FUNCTION inbox_delete_marks(int, int);
DROP FUNCTION inbox_empty_week();
DROP FUNCTION inbox_add_weeks(int, bigint);
DROP FUNCTION inbox_retain(text, interval, text[]);
DROP FUNCTION inbox_try_sweep();
DROP FUNCTION inbox_retention_of(regclass);
DROP FUNCTION inbox_estimate();
DROP FUNCTION inbox_consumers_in(regclass);
DROP FUNCTION inbox_weeks();
DROP INDEX inbox_handled_at_idx;
