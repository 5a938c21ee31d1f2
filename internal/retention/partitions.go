package retention

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// partitions adds and drops the partitions of an outbox that is partitioned by id. The work is done
// by functions in the table's schema that belong to the table's owner, as the relay does not; they
// check everything again under the lock. Their names begin with that of the table.
type partitions struct {
	table string
}

// mostPartitions bounds what one round adds or drops.
const mostPartitions = 16

// function returns the quoted name of one of the functions.
func (p *partitions) function(name string) string { return pg.QuoteTable(p.table + name) }

// each calls a function until it returns NULL, and counts the calls before that.
func (p *partitions) each(ctx context.Context, conn *pgx.Conn, what, call string, args ...any) (n int, err error) {
	for range mostPartitions {
		var name *string
		if err := conn.QueryRow(ctx, `SELECT `+call, args...).Scan(&name); err != nil {
			return n, fmt.Errorf("%s a partition of %s: %w", what, p.table, err)
		}
		if name == nil {
			break
		}
		n++
	}
	return n, nil
}

// add makes partitions until enough of them lie ahead.
func (p *partitions) add(ctx context.Context, conn *pgx.Conn) (int, error) {
	return p.each(ctx, conn, "add", p.function("_add_partition")+`()`)
}

// empty removes the rows of the partitions of which every row may go.
func (p *partitions) empty(ctx context.Context, conn *pgx.Conn, r rule) (n int, err error) {
	n, err = p.emptyVisible(ctx, conn, r.published.From, math.MaxInt64, r.age)
	if err != nil || !r.published.Open() {
		return n, err
	}
	// Of the open window, the ids up to the last one are published too.
	more, err := p.emptyVisible(ctx, conn, r.published.To, r.published.LastID+1, r.age)
	return n + more, err
}

// emptyVisible does so for the partitions below an id whose rows are all visible in a snapshot.
func (p *partitions) emptyVisible(ctx context.Context, conn *pgx.Conn, s position.Snapshot, below int64, age time.Duration) (int, error) {
	call := p.function("_empty_partition") + `($1::text::pg_snapshot, $2::bigint, $3::float8 * interval '1 second')`
	return p.each(ctx, conn, "empty", call, s.String(), below, age.Seconds())
}

// drop removes empty partitions that no row will come to any more.
func (p *partitions) drop(ctx context.Context, conn *pgx.Conn) (int, error) {
	return p.each(ctx, conn, "drop", p.function("_drop_partition")+`()`)
}
