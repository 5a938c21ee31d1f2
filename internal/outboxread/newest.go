package outboxread

import (
	"context"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// newestQuery is one statement, so that no row that it sees can be newer than its snapshot.
func newestQuery(table string) string {
	return `SELECT pg_snapshot_xmax(pg_current_snapshot())::text,
       coalesce((SELECT newest::text
                 FROM (SELECT xact_id AS newest FROM ` + pg.QuoteTable(table) + ` ORDER BY xact_id DESC LIMIT 1) one), '0')`
}

// Newest returns the first transaction id that has not ended, and the highest xact_id in the table,
// 0 if that is empty. It reads one row through the index if the settings of the session forbid
// other plans, as those of a Reader do.
func Newest(ctx context.Context, q pg.Rower, table string) (xmax, newest uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var first, last string
	err = q.QueryRow(ctx, newestQuery(table)).Scan(&first, &last)
	if err == nil {
		xmax, err = position.ParseXID(first)
	}
	if err == nil && last != "0" {
		newest, err = position.ParseXID(last)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the newest transaction of %s: %w", table, err)
	}
	return xmax, newest, nil
}
