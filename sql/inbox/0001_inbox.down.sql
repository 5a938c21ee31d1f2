-- Removes the inbox: every mark, what is parked, claims and the audit.
DROP FUNCTION inbox_accept(text, text, text);
DROP TABLE inbox_audit;
DROP TABLE inbox_claims;
DROP TABLE inbox_incarnation;
DROP TABLE inbox_sessions;
DROP TABLE inbox_started;
DROP TABLE inbox_parked;
DROP TABLE inbox_parked_keys;
DROP TABLE inbox_consumers;
DROP TABLE inbox;
DROP FUNCTION inbox_floor(timestamptz);
DROP FUNCTION inbox_key(text);
