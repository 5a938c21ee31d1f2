-- Removes parked events, which were never published, and the record of what was done with others.
-- It refuses while any are parked.
DO $$
BEGIN
    IF EXISTS (SELECT FROM outbox_parked WHERE released_seq IS NULL) THEN
        RAISE EXCEPTION 'outbox_parked still holds events that were not published'
            USING HINT = 'Publish or discard them first: relay parked list';
    END IF;
END
$$;
DROP TABLE outbox_parked;
DROP TABLE outbox_parked_audit;
ALTER TABLE relay_lanes DROP COLUMN partition;
