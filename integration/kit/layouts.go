package kit

import (
	"fmt"
	"testing"

	migrations "github.com/outbox-relay/relay/sql"
)

// PartitionRows is the width of the partitions of these tests: small, so that they come and go all
// the time.
const PartitionRows = 1000

// Layouts make a database with an outbox in each layout.
var Layouts = map[string]func(t testing.TB) string{"plain": Database, "partitioned": PartitionedDatabase}

// PartitionedDatabase makes a database with an outbox in the partitioned layout.
func PartitionedDatabase(t testing.TB) string {
	t.Helper()
	url := Database(t)
	PartitionOutbox(t, url, PartitionRows)
	return url
}

// PartitionOutbox takes the steps to the partitioned layout, each in its own transaction.
func PartitionOutbox(t testing.TB, url string, rows int) {
	t.Helper()
	for _, step := range migrations.Partitioned() {
		Execute(t, url, fmt.Sprintf("SET outbox.partition_rows = %d; %s", rows, step.Up))
	}
}
