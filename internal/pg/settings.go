package pg

import (
	"maps"
	"strings"
)

// pinned are the settings of every session. A session's own settings may replace some of them.
var pinned = map[string]string{
	// What a statement sees. A snapshot that is as old as the transaction shows a table that was
	// rewritten meanwhile as empty. A policy must not hide rows: with row_security off Postgres
	// refuses the statement instead.
	"default_transaction_isolation":  "read committed",
	"default_transaction_read_only":  "off",
	"default_transaction_deferrable": "off",
	"row_security":                   "off",

	// The intent is the barrier behind which a row that was seen cannot vanish in a crash.
	"synchronous_commit": "on",

	// The product's own time limits apply, not those of a role. transaction_timeout belongs to
	// them; see afterStart.
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",

	// How values look as text, and how literals are read.
	"client_encoding":             "UTF8",
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"TimeZone":                    "UTC",
	"bytea_output":                "hex",
	"extra_float_digits":          "1",
	"standard_conforming_strings": "on",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",

	// What the server tells beside its results.
	"client_min_messages": "warning",

	// Which plans are possible. What a session must not use it turns off itself.
	"enable_bitmapscan":        "on",
	"enable_hashagg":           "on",
	"enable_hashjoin":          "on",
	"enable_incremental_sort":  "on",
	"enable_indexonlyscan":     "on",
	"enable_indexscan":         "on",
	"enable_material":          "on",
	"enable_memoize":           "on",
	"enable_mergejoin":         "on",
	"enable_nestloop":          "on",
	"enable_partition_pruning": "on",
	"enable_seqscan":           "on",
	"enable_sort":              "on",
	"enable_tidscan":           "on",
	"plan_cache_mode":          "auto",
	"constraint_exclusion":     "partition",
}

// checked are settings that only a superuser may set, so they cannot be pinned; a session that has
// others is refused.
var checked = map[string]string{
	"session_replication_role": "origin", // others leave triggers and foreign keys out
	"zero_damaged_pages":       "off",    // on takes damaged pages, and the rows in them, for empty
}

// keepalives let the server notice within about ten seconds that this host is gone, and free the
// locks of the session. They are not read back: on a Unix socket they always read as zero.
var keepalives = map[string]string{
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "2",
	"tcp_keepalives_count":    "3",
}

// started returns the settings that a session starts with, given its own.
func started(own map[string]string) map[string]string {
	all := maps.Clone(pinned)
	maps.Copy(all, own)
	return all
}

// replace puts settings into the parameters of a connection string, in whose names upper and lower
// case are the same.
func replace(parameters, settings map[string]string) {
	for name := range settings {
		maps.DeleteFunc(parameters, func(given, _ string) bool { return strings.EqualFold(given, name) })
	}
	maps.Copy(parameters, settings)
}
