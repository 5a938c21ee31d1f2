package outboxread

import (
	"strconv"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// The reader's own session settings, beside those of internal/pg: each forbids a plan that reads
// the retained rows to find the new ones, whatever the statistics say, and none touches another
// session. See DESIGN.md, "Reading".
var readerSettings = map[string]string{
	"enable_seqscan":                  "off",
	"enable_bitmapscan":               "off",
	"enable_sort":                     "off",
	"max_parallel_workers_per_gather": "0",
	"jit":                             "off",
	"work_mem":                        "32MB",
}

const (
	tailStatement  = "relay_tail"
	leastStatement = "relay_least"
	pageStatement  = "relay_page"
)

// tailQuery reads the rows that became visible since a snapshot: of transactions that began after
// it ($1 = its xmax) and of those that ran when it was taken ($2 = its xip list). One statement is
// one snapshot, which the first row returns, and with it the oid of the table. That part stands
// last: names are looked up from the first part to the last, so by then the table is locked under
// its name.
func tailQuery(table, columns string) string {
	return `SELECT ` + rowColumns + `, xact_id, NULL AS snapshot FROM (
    SELECT ` + columns + `, xact_id FROM ` + table + ` WHERE xact_id >= $1::xid8 ORDER BY xact_id LIMIT $3::bigint) began
UNION ALL
SELECT ` + rowColumns + `, xact_id, NULL FROM (
    SELECT ` + columns + `, xact_id FROM ` + table + ` WHERE xact_id = ANY ($2::xid8[]) ORDER BY xact_id LIMIT $3::bigint) ran
UNION ALL
SELECT NULL::bigint, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text, NULL::bytea, NULL::jsonb, clock_timestamp(),
       NULL::int, NULL::xid8, pg_current_snapshot()::text || '/' || ` + pg.OIDOf(table) + `
ORDER BY id NULLS FIRST`
}

// leastQuery finds the least id of a window, given some id of it ($4). It must not walk the primary
// key, whose rows below $4 are all those that were published and retained. Of the transactions that
// began, only rows below $4 are visited, since the index holds both columns; the order that is
// asked for, with enable_sort off, leaves the planner no other index. Of those that ran, all rows
// are visited: id + 0 is no condition that the primary key serves. OFFSET 0 keeps min() out of it
// all.
func leastQuery(table string) string {
	return `SELECT least($4::bigint,
    (SELECT min(id) FROM (SELECT id FROM ` + table + `
        WHERE xact_id >= $1::xid8 AND id < $4::bigint AND pg_visible_in_snapshot(xact_id, $3::pg_snapshot)
        ORDER BY xact_id OFFSET 0) began),
    (SELECT min(id) FROM (SELECT id FROM ` + table + `
        WHERE xact_id = ANY ($2::xid8[]) AND id + 0 < $4::bigint AND pg_visible_in_snapshot(xact_id, $3::pg_snapshot) OFFSET 0) ran))`
}

// pageQuery reads the next rows of the window ($1, $2] after the id $3, in the order of their ids.
func pageQuery(table, columns string) string {
	return `SELECT ` + columns + `, xact_id FROM ` + table + `
WHERE id > $3::bigint AND pg_visible_in_snapshot(xact_id, $2::pg_snapshot) AND NOT pg_visible_in_snapshot(xact_id, $1::pg_snapshot)
ORDER BY id LIMIT $4::bigint`
}

func xidParam(xid uint64) []byte { return strconv.AppendUint(nil, xid, 10) }

func xipParam(xids []uint64) []byte {
	b := make([]byte, 0, 2+20*len(xids))
	return append(position.AppendXIDs(append(b, '{'), xids), '}')
}

// IntParam is a bigint as a parameter of a prepared read.
func IntParam(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
