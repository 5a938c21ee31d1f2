-- Removes the functions that write events; the events stay.
DROP FUNCTION outbox_lock_aggregate(text, text);
DROP FUNCTION outbox_write_bytes(text, text, text, bytea, jsonb, text);
DROP FUNCTION outbox_write(text, text, text, jsonb, jsonb, text);
