package tables

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// Statements are the texts of all statements, with the schema in front of the names of tables if
// one is set.
type Statements struct {
	Accept, AcceptMany, MarkMany, AnyParked, ParkedKeys  string
	Mark, Park, AddKey, FindKey                          string
	Head, ClaimKey, LockKey, DropKey, DropParked, Failed string
	KeyState, Requested, EndRequest, DropStarted         string
	CountParked                                          string
	Start, StartParked, DropManyStarted                  string
	OpenSession, CloseSession, Flush                     string
	Claim, SeeClaim, FailClaim, SettleClaim, DropMark    string
	EndClaim, HasMark                                    string
	Audit, Seen, Started, Missing                        string
	Retain, AddWeeks, EmptyWeek, DeleteMarks             string
	DeleteStarted, DropWeeks                             string
	Incarnate, Incarnation, IsIn                         string
}

// isInText is the incarnation that a transaction is in; 0 if a crash has just ended one and the
// next has not begun.
const isInText = `coalesce((SELECT id FROM {inbox_incarnation}), 0)`

// accept writes the mark and looks for the key among those that are parked, all in one statement.
// One snapshot for both is enough for one message: an earlier message of its key was decided before
// this statement began. A key row that is removed meanwhile is not returned: FOR KEY SHARE waits
// for the end of that transaction and looks again. The timeout frees mark and locks of a process
// that is frozen in the middle.
const acceptText = `WITH parked AS MATERIALIZED (
	SELECT id FROM {inbox_parked_keys} WHERE consumer = $1 AND topic = $4 AND sha256(key) = sha256($5) FOR KEY SHARE
), mark AS (
	INSERT INTO {inbox} (consumer, source, msg_id) VALUES ($1, $2, $3::text::uuid) ON CONFLICT DO NOTHING RETURNING 1
)
SELECT EXISTS (SELECT FROM mark), (SELECT id FROM parked),
	set_config('idle_in_transaction_session_timeout',
		coalesce($6, current_setting('idle_in_transaction_session_timeout')), true),
	set_config('statement_timeout', CASE current_setting('statement_timeout') WHEN '0' THEN coalesce($7, '0')
		ELSE current_setting('statement_timeout') END, true), ` + isInText

// acceptMany writes many marks of one source; they come in the order of their keys, so that two
// batches with the same messages cannot wait for each other. It returns how many were new, and only
// if that is not all of them, which.
const acceptManyText = `WITH fresh AS (
	INSERT INTO {inbox} (consumer, source, msg_id) SELECT $1, $2, m.id FROM unnest($3::uuid[]) AS m (id)
	ON CONFLICT DO NOTHING RETURNING msg_id
)
SELECT n.fresh, CASE WHEN n.fresh < $4 THEN (SELECT coalesce(string_agg(msg_id::text, ','), '') FROM fresh) END
FROM (SELECT count(*) AS fresh FROM fresh) AS n`

// markMany is acceptMany if nothing is seen again: it fails with a unique violation if something
// is. To write each mark with ON CONFLICT costs a third more, and most batches hold no message
// twice.
const markManyText = `INSERT INTO {inbox} (consumer, source, msg_id)
	SELECT $1, $2, m.id FROM unnest($3::uuid[]) AS m (id)`

// anyParked comes after acceptMany, as its own statement: the insert of a mark may have waited for
// a transaction that parked an earlier message of the same batch, and only a later snapshot sees
// its key.
const anyParkedText = `SELECT EXISTS (SELECT FROM {inbox_parked_keys} WHERE consumer = $1),
	set_config('idle_in_transaction_session_timeout', $2, true),
	set_config('statement_timeout', CASE current_setting('statement_timeout') WHEN '0' THEN $3
		ELSE current_setting('statement_timeout') END, true), ` + isInText

// BoundText bounds a transaction against a process that is frozen in the middle.
const BoundText = `SELECT set_config('idle_in_transaction_session_timeout', $1, true),
	set_config('statement_timeout', CASE WHEN $3 AND current_setting('statement_timeout') <> '0'
		THEN current_setting('statement_timeout') ELSE $2 END, true)`

// parkedKeys finds the keys of a batch among those that are parked, once it is known that some are.
const parkedKeysText = `SELECT k.id, k.topic, k.key FROM {inbox_parked_keys} k
JOIN unnest($2::text::text[], $3::text::bytea[]) AS m (topic, key)
		ON k.topic = m.topic AND sha256(k.key) = sha256(m.key)
WHERE k.consumer = $1 FOR KEY SHARE OF k`

// keyTaken orders those who take messages of one key out: it excludes others of its kind, and not
// those who add messages.
const keyTakenText = `SELECT id FROM {inbox_parked_keys}
WHERE id = $1 AND requested_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED`

// headText returns the first parked message of a key. Headers come as JSON: every driver reads a
// text.
const headText = `SELECT p.id, k.topic, k.key, p.source, p.msg_id, p.type, p.partition, p."offset", p.record_time,
		p.payload, p.cause,
	(SELECT coalesce(json_agg(json_build_array(encode(h.name, 'hex'), encode(h.value, 'hex')) ORDER BY h.place), '[]')
	 FROM unnest(p.header_names, p.header_values) WITH ORDINALITY AS h (name, value, place))::text
FROM {inbox_parked} p JOIN {inbox_parked_keys} k ON k.id = p.key_id
WHERE p.key_id = $1 ORDER BY p.id LIMIT 1`

// seenText asks for each message alone: a join would let Postgres choose to read the whole table.
const seenText = `SELECT m.place FROM unnest($2::text::text[], $3::uuid[]) WITH ORDINALITY AS m (source, id, place)
WHERE (SELECT true FROM {inbox} i WHERE i.consumer = $1 AND i.source = m.source AND i.msg_id = m.id)
AND (SELECT true FROM {inbox_claims} c WHERE c.consumer = $1 AND c.source = m.source AND c.msg_id = m.id) IS NULL`

// startText records that handlers are about to run, but not for what is handled already, and
// returns how often each one was recorded now. synchronous_commit is set beside it.
const startText = `INSERT INTO {inbox_started} AS s (consumer, source, msg_id)
SELECT $1, m.source, m.id FROM unnest($2::text::text[], $3::uuid[]) AS m (source, id)
WHERE (SELECT true FROM {inbox} i WHERE i.consumer = $1 AND i.source = m.source AND i.msg_id = m.id) IS NULL
ORDER BY m.source, m.id
ON CONFLICT (consumer, source, msg_id) DO UPDATE SET starts = s.starts + 1, started_at = clock_timestamp()
RETURNING source, msg_id::text, starts`

// startedText asks for each message alone, as seenText does.
const startedText = `SELECT m.place, s.starts
	FROM unnest($2::text::text[], $3::uuid[]) WITH ORDINALITY AS m (source, id, place)
CROSS JOIN LATERAL (SELECT starts FROM {inbox_started} s
	WHERE s.consumer = $1 AND s.source = m.source AND s.msg_id = m.id LIMIT 1) AS s`

const requestedText = `SELECT k.id, k.topic, k.key,
	coalesce((SELECT max(p.id) FROM {inbox_parked} p WHERE p.key_id = k.id), 0)
FROM {inbox_parked_keys} k
WHERE k.consumer = $1 AND k.requested_at IS NOT NULL AND NOT EXISTS (
	SELECT FROM {inbox_sessions} s WHERE s.consumer = k.consumer AND s.topic = k.topic AND s.instance <> $3
	AND s.partition = (SELECT p.partition FROM {inbox_parked} p WHERE p.key_id = k.id ORDER BY p.id LIMIT 1))
ORDER BY k.requested_at, k.id LIMIT $2`

const startParkedText = `INSERT INTO {inbox_started} AS s (consumer, source, msg_id) VALUES ($1, $2, $3::text::uuid)
ON CONFLICT (consumer, source, msg_id) DO UPDATE SET starts = s.starts + 1, started_at = clock_timestamp()
	RETURNING starts`

// New returns the texts for the tables of a schema, or of the search_path if it is empty.
func New(schema string) *Statements {
	s := func(text string) string { return Qualified(schema, text) }
	return &Statements{
		Accept:     s(acceptText),
		AcceptMany: s(acceptManyText),
		MarkMany:   s(markManyText),
		AnyParked:  s(anyParkedText),
		ParkedKeys: s(parkedKeysText),
		Mark: s(`INSERT INTO {inbox} (consumer, source, msg_id) VALUES ($1, $2, $3::text::uuid)
ON CONFLICT DO NOTHING`),
		AddKey: s(`INSERT INTO {inbox_parked_keys} (consumer, topic, key) VALUES ($1, $2, $3)
ON CONFLICT (consumer, topic, sha256(key)) DO NOTHING RETURNING id`),
		FindKey: s(`SELECT id FROM {inbox_parked_keys}
			WHERE consumer = $1 AND topic = $2 AND sha256(key) = sha256($3) FOR KEY SHARE`),
		Park: s(`INSERT INTO {inbox_parked} (key_id, source, msg_id, type, partition, "offset", record_time,
	header_names, header_values, payload, cause, error, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::bytea[], $9::text::bytea[], $10, $11, $12, $13)`),
		Head:     s(headText),
		ClaimKey: s(keyTakenText),
		LockKey:  s(`SELECT id FROM {inbox_parked_keys} WHERE id = $1 FOR UPDATE`),
		DropKey: s(`DELETE FROM {inbox_parked_keys} k WHERE k.id = $1
AND NOT EXISTS (SELECT FROM {inbox_parked} p WHERE p.key_id = $1)`),
		DropParked: s(`DELETE FROM {inbox_parked} WHERE id = $1`),
		KeyState:   s(`SELECT requested_at IS NOT NULL FROM {inbox_parked_keys} WHERE id = $1`),
		Requested:  s(requestedText),
		CountParked: s(`SELECT count(*), greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(parked_at)), 0))::float8
FROM (SELECT parked_at FROM {inbox_parked_keys} WHERE consumer = $1 LIMIT $2) k`),
		EndRequest: s(`UPDATE {inbox_parked_keys}
			SET requested_at = NULL, requested_by = NULL, reason = NULL WHERE id = $1`),
		Failed: s(`UPDATE {inbox_parked} SET error = $2, attempts = attempts + 1
WHERE id = (SELECT min(id) FROM {inbox_parked} WHERE key_id = $1)`),
		Start:       s(startText),
		StartParked: s(startParkedText),
		DropStarted: s(`DELETE FROM {inbox_started} WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid`),
		DropManyStarted: s(`DELETE FROM {inbox_started} s USING unnest($2::text::text[], $3::uuid[]) AS m (source, id)
WHERE s.consumer = $1 AND s.source = m.source AND s.msg_id = m.id`),
		OpenSession: s(`WITH before AS (
	SELECT instance FROM {inbox_sessions} WHERE consumer = $1 AND topic = $2 AND partition = $3 FOR UPDATE
), now AS (
	INSERT INTO {inbox_sessions} (consumer, topic, partition, instance) VALUES ($1, $2, $3, $4)
	ON CONFLICT (consumer, topic, partition) DO UPDATE SET instance = excluded.instance, opened_at = clock_timestamp()
)
SELECT instance FROM before`),
		Flush: s(`UPDATE {inbox_sessions} SET opened_at = opened_at WHERE (consumer, topic, partition) = (
	SELECT consumer, topic, partition FROM {inbox_sessions} WHERE consumer = $1 AND instance = $2
				ORDER BY topic, partition LIMIT 1)
AND instance = $2`),
		CloseSession: s(`DELETE FROM {inbox_sessions}
			WHERE consumer = $1 AND topic = $2 AND partition = $3 AND instance = $4`),
		Claim: s(`INSERT INTO {inbox_claims} (consumer, source, msg_id, instance) VALUES ($1, $2, $3::text::uuid, $4)
ON CONFLICT DO NOTHING`),
		SeeClaim: s(`UPDATE {inbox_claims} SET seen_at = clock_timestamp()
WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid RETURNING instance, claimed_at, error`),
		EndClaim: s(`DELETE FROM {inbox_claims}
WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid AND instance = $4 RETURNING seen_at IS NOT NULL`),
		HasMark: s(`SELECT true FROM {inbox} WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid`),
		FailClaim: s(`UPDATE {inbox_claims} SET error = $4
			WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid`),
		SettleClaim: s(`DELETE FROM {inbox_claims} WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid`),
		DropMark:    s(`DELETE FROM {inbox} WHERE consumer = $1 AND source = $2 AND msg_id = $3::text::uuid`),
		Audit: s(`INSERT INTO {inbox_audit} (consumer, action, topic, key, source, msg_id, details)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb)`),
		Seen:    s(seenText),
		Started: s(startedText),
		Missing: `SELECT name FROM unnest($1::text::text[]) AS name WHERE to_regclass($2 || name) IS NULL ORDER BY name`,

		Retain: s(`SELECT claimant, extract(epoch FROM age)::float8
FROM {inbox_retain}($1, make_interval(secs => $2), $3::text::text[])`),
		AddWeeks:      s(`SELECT {inbox_add_weeks}()`),
		EmptyWeek:     s(`SELECT {inbox_empty_week}()`),
		DeleteMarks:   s(`SELECT partition, deleted FROM {inbox_delete_marks}()`),
		DeleteStarted: s(`SELECT {inbox_delete_started}()`),
		DropWeeks:     s(`SELECT {inbox_drop_weeks}()`),

		Incarnate: s(`INSERT INTO {inbox_incarnation} (single) VALUES (true) ON CONFLICT DO NOTHING`),
		Incarnation: s(`SELECT i.id, c.relpersistence <> 'u' FROM {inbox_incarnation} i
JOIN pg_catalog.pg_class c ON c.oid = i.tableoid`),
		IsIn: s(`SELECT ` + isInText),
	}
}

// Qualified writes {name} as the name of a table.
func Qualified(schema, text string) string {
	prefix := ""
	if schema != "" {
		prefix = pgx.Identifier{schema}.Sanitize() + "."
	}
	return strings.NewReplacer("{", prefix, "}", "").Replace(text)
}

// The statements that show whether the server is well. The second one writes about a megabyte of
// temporary files, for which no right is needed, and leaves nothing behind.
const (
	LittleMemory = "SET LOCAL work_mem = '64kB'"
	Spill        = "SELECT count(*) FROM generate_series(1, 40000)"
)
