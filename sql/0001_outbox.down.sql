-- Removes the outbox and every event in it, published or not.
DROP TABLE outbox;
DROP FUNCTION outbox_uuidv7();
DROP DOMAIN outbox_headers;
DROP DOMAIN outbox_text;
