package relay

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
)

// partitions adds and drops the partitions of an outbox that is partitioned by id. The work is done by functions in the table's
// schema that belong to the table's owner, as the relay does not; they check everything again under the lock. Their names
// begin with that of the table.
type partitions struct {
	table string
}

// mostPartitions bounds what one round adds or drops.
const mostPartitions = 16

// function returns the quoted name of one of the functions.
func (p *partitions) function(name string) string { return quoteTable(p.table + name) }

// add makes partitions until enough of them lie ahead.
func (p *partitions) add(ctx context.Context, conn *pgx.Conn) (added int, err error) {
	for range mostPartitions {
		var name *string
		if err := conn.QueryRow(ctx, `SELECT `+p.function("_add_partition")+`()`).Scan(&name); err != nil {
			return added, fmt.Errorf("add a partition to %s: %w", p.table, err)
		}
		if name == nil {
			break
		}
		added++
	}
	return added, nil
}

// drop removes partitions of which every row may go.
func (p *partitions) drop(ctx context.Context, conn *pgx.Conn, r rule) (dropped int, err error) {
	visible, below := r.published.From, int64(math.MaxInt64)
	for {
		n, err := p.dropVisible(ctx, conn, visible, below, r)
		dropped += n
		if err != nil || !r.published.Open() || below != math.MaxInt64 {
			return dropped, err
		}
		// Of the open window, the ids up to the last one are published too.
		visible, below = r.published.To, r.published.LastID+1
	}
}

// dropVisible drops the partitions below an id whose rows are all visible in a snapshot.
func (p *partitions) dropVisible(ctx context.Context, conn *pgx.Conn, s Snapshot, below int64, r rule) (dropped int, err error) {
	for range mostPartitions {
		var name *string
		err := conn.QueryRow(ctx, `SELECT `+p.function("_drop_partition")+`($1::text::pg_snapshot, $2::bigint, $3::float8 * interval '1 second')`,
			s.String(), below, r.age.Seconds()).Scan(&name)
		if err != nil {
			return dropped, fmt.Errorf("drop a partition of %s: %w", p.table, err)
		}
		if name == nil {
			break
		}
		dropped++
	}
	return dropped, nil
}
