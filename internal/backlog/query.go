package backlog

import (
	"github.com/outbox-relay/relay/internal/pg"
)

// settings forbid plans that read the retained rows, as those of the reader do; see package
// outboxread. A look never waits long: the next one comes soon.
var settings = map[string]string{
	"enable_seqscan":                  "off",
	"enable_bitmapscan":               "off",
	"enable_sort":                     "off",
	"max_parallel_workers_per_gather": "0",
	"jit":                             "off",
	"lock_timeout":                    "1s",
	"statement_timeout":               "4s",
}

// counted are the columns of both counts: the rows that were looked at, those of them that are
// unpublished, the highest id among the former, the age of the oldest of the latter, and the
// highest id of the table.
func counted(table, rows string) string {
	return `SELECT count(*), count(*) FILTER (WHERE new), coalesce(max(id), 0),
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE new)), 0))::float8,
       coalesce((SELECT id FROM ` + table + ` ORDER BY id DESC LIMIT 1), 0)
FROM (` + rows + `) looked`
}

// closedCount counts if no window is open: the rows of transactions that began after the snapshot
// up to which all is published ($1 = its xmax), and of those that ran when it was taken ($2 = its
// xip list), $3 of either at most.
func closedCount(setting string) string {
	table := pg.QuoteTable(setting)
	return counted(table, `
    SELECT id, created_at, true AS new FROM (
        SELECT id, created_at FROM `+table+` WHERE xact_id >= $1::text::xid8 ORDER BY xact_id LIMIT $3::bigint) began
    UNION ALL
    SELECT id, created_at, true FROM (
        SELECT id, created_at FROM `+table+` WHERE xact_id = ANY ($2::text::xid8[]) ORDER BY xact_id LIMIT $3::bigint) ran`)
}

// openCount counts if a window is open whose rows are published up to the id $2: those with higher
// ids that the snapshot before the window ($1) does not show, and with lower ones those of
// transactions that ran at the end of the window ($3 = their ids), out of $4 of either at most. The
// bound is on the rows that are looked at, because many of them may be published.
func openCount(setting string) string {
	table := pg.QuoteTable(setting)
	return counted(table, `
    SELECT id, created_at, NOT pg_visible_in_snapshot(xact_id, $1::text::pg_snapshot) AS new FROM (
        SELECT id, xact_id, created_at FROM `+table+` WHERE id > $2::bigint ORDER BY id LIMIT $4::bigint) ahead
    UNION ALL
    SELECT id, created_at, true FROM (
        SELECT id, created_at FROM `+table+` WHERE xact_id = ANY ($3::text::xid8[]) AND id + 0 <= $2::bigint
         ORDER BY xact_id LIMIT $4::bigint) ran`)
}

// progressQuery reads from the lane's row up to where the rows are known to be published: before
// the last intent if that one is not confirmed.
const progressQuery = `
SELECT coalesce(confirmed_from, snapshot_from)::text, CASE WHEN confirmed_from IS NULL THEN snapshot_to ELSE confirmed_to END::text,
       CASE WHEN confirmed_from IS NULL THEN last_id ELSE confirmed_last_id END
  FROM relay_lanes WHERE lane = $1`

// holderQuery names the session whose lock on the table keeps readers out.
const holderQuery = `
SELECT l.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.relation = to_regclass($1) AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid() LIMIT 1`
