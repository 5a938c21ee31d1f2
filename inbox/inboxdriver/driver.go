package inboxdriver

import (
	"context"
	"errors"
	"time"
)

// Driver begins transactions of type TTx. inbox.New uses one for pgx and inboxsql.New one for
// database/sql.
type Driver[TTx any] interface {
	// Begin begins a transaction and runs the first statements in it, in one round trip if the driver
	// can; once it has a connection, within the limit. It returns the transaction in both forms; if
	// it returns an error there is none.
	Begin(ctx context.Context, limit time.Duration, first ...Statement) (Tx, TTx, error)
	// Size is how many connections the pool has at most; 0 if it has no bound.
	Size() int
	// Busy reports whether every connection of the pool is in use.
	Busy() bool
	// Wrap returns the other form of a transaction that somebody else began and ends.
	Wrap(tx TTx) Tx
}

// ErrRolledBack is inbox.ErrRolledBack: Commit returns it if the transaction cannot be committed
// and the connection is there.
var ErrRolledBack = errors.New("inbox: the handler returned nil, but its transaction cannot be committed")

// Tx is what an inbox does in a transaction.
type Tx interface {
	// Send runs statements in order, in one round trip if the driver can.
	Send(ctx context.Context, statements ...Statement) error
	// Commit returns ErrRolledBack if the handler left nothing to commit, by its own doing, and if
	// Postgres refused and the connection is there.
	Commit(ctx context.Context) error
	// Rollback does nothing once the transaction has ended.
	Rollback(ctx context.Context) error
	// Lost reports whether the connection is gone, after an error.
	Lost(ctx context.Context) bool
	// Abandon cuts the connection while another goroutine may go on to use it; a statement that runs
	// is cancelled. The transaction is rolled back, and its connection is no longer one of the pool.
	// Rollback does nothing after it.
	Abandon()
}

// Statement is one statement and what is done with its rows.
type Statement struct {
	SQL string
	// Args are strings, byte slices, numbers, times and nil, which every driver sends in the same
	// way, and []uuid.UUID, which stands for a uuid[]; other arrays go in their text form.
	Args []any
	// Each is called for each row; nil if there are none.
	Each func(Row) error
	// Affected receives the number of rows that were written; nil if it is not wanted.
	Affected *int64
}

// Row is one row of a result.
type Row interface {
	Scan(into ...any) error
}
