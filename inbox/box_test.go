package inbox_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/inbox/inboxsql"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// transaction is what the handlers of the tests do in a transaction, whichever driver it is of.
type transaction interface {
	exec(ctx context.Context, statement string, args ...any) error
	scan(ctx context.Context, into any, statement string, args ...any) error
	commit(ctx context.Context) error
	rollback(ctx context.Context) error
}

// box is an inbox of either driver.
type box interface {
	Handle(context.Context, inbox.Message, handler) (inbox.Result, error)
	HandleBatch(context.Context, []inbox.Message, batchHandler) ([]inbox.Outcome, error)
	Accept(context.Context, transaction, inbox.Message) (inbox.Result, error)
	Retry(context.Context, inboxloop.ParkedKey, retryHandler) (inboxloop.Retried, error)
	// begin is a transaction of the caller.
	begin(context.Context) (transaction, error)
	either
}

// either are the methods that are the same for both drivers.
type either interface {
	AtMostOnce(context.Context, inbox.Message, func(context.Context) error) (inbox.Result, error)
	RetryAtMostOnce(context.Context, inboxloop.ParkedKey, func(context.Context, inbox.Message) error) (inboxloop.Retried, error)
	Park(context.Context, inbox.Message, inbox.Cause, int, error) (inbox.Result, error)
	Seen(context.Context, []inbox.Message) ([]bool, error)
	Start(context.Context, []inbox.Message) ([]int, error)
	Open(ctx context.Context, topic string, partition int32) (bool, error)
	Close(ctx context.Context, topic string, partition int32) error
	Requested(ctx context.Context, limit int) ([]inboxloop.ParkedKey, error)
	Parked(context.Context) (keys int64, oldest time.Duration, err error)
	RetryFailed(context.Context, inboxloop.ParkedKey, error) error
	Check(context.Context) error
	Incarnation(context.Context) (inboxloop.Incarnation, error)
	Bind(context.Context, inboxloop.Incarnation) context.Context
	Flush(context.Context, inboxloop.Incarnation) error
	Retain(ctx context.Context, keep time.Duration, claimants ...string) error
	Sweep(context.Context) (inbox.Swept, error)
	SetIdle(time.Duration)
	Consumer() string
	Instance() string
}

type (
	handler      = func(context.Context, transaction) error
	batchHandler = func(context.Context, transaction, []inbox.Message) error
	retryHandler = func(context.Context, transaction, inbox.Message) error
)

// boxOf makes a box of an inbox of one driver.
type boxOf[TTx any] struct {
	*inbox.Inbox[TTx]
	*inboxloop.Loop[TTx]
	wrap   func(TTx) transaction
	unwrap func(transaction) TTx
	start  func(context.Context) (TTx, error)
}

func (b boxOf[TTx]) Handle(ctx context.Context, m inbox.Message, h handler) (inbox.Result, error) {
	return b.Inbox.Handle(ctx, m, func(ctx context.Context, tx TTx) error { return h(ctx, b.wrap(tx)) })
}

func (b boxOf[TTx]) HandleBatch(ctx context.Context, messages []inbox.Message, h batchHandler) ([]inbox.Outcome, error) {
	return b.Inbox.HandleBatch(ctx, messages, func(ctx context.Context, tx TTx, fresh []inbox.Message) error { return h(ctx, b.wrap(tx), fresh) })
}

func (b boxOf[TTx]) Accept(ctx context.Context, tx transaction, m inbox.Message) (inbox.Result, error) {
	return b.Inbox.Accept(ctx, b.unwrap(tx), m)
}

func (b boxOf[TTx]) Retry(ctx context.Context, key inboxloop.ParkedKey, h retryHandler) (inboxloop.Retried, error) {
	return b.Loop.Retry(ctx, key, func(ctx context.Context, tx TTx, m inbox.Message) error { return h(ctx, b.wrap(tx), m) })
}

// SetIdle shortens how long a session may say nothing in a transaction.
func (b boxOf[TTx]) SetIdle(d time.Duration) { ledger.From[TTx](b.Inbox).Idle = d }

func (b boxOf[TTx]) begin(ctx context.Context) (transaction, error) {
	tx, err := b.start(ctx)
	return b.wrap(tx), err
}

type pgxTransaction struct{ pgx.Tx }

func (t pgxTransaction) exec(ctx context.Context, statement string, args ...any) error {
	_, err := t.Exec(ctx, statement, args...)
	return err
}

func (t pgxTransaction) scan(ctx context.Context, into any, statement string, args ...any) error {
	return t.QueryRow(ctx, statement, args...).Scan(into)
}

func (t pgxTransaction) commit(ctx context.Context) error   { return t.Commit(ctx) }
func (t pgxTransaction) rollback(ctx context.Context) error { return t.Rollback(ctx) }

type sqlTransaction struct{ *sql.Tx }

func (t sqlTransaction) exec(ctx context.Context, statement string, args ...any) error {
	_, err := t.ExecContext(ctx, statement, args...)
	return err
}

func (t sqlTransaction) scan(ctx context.Context, into any, statement string, args ...any) error {
	return t.QueryRowContext(ctx, statement, args...).Scan(into)
}

func (t sqlTransaction) commit(context.Context) error   { return t.Commit() }
func (t sqlTransaction) rollback(context.Context) error { return t.Rollback() }

// driver opens an inbox with a pool of so many connections, which ends with the test.
type driver struct {
	name string
	open func(t *testing.T, url string, connections int, config *inbox.Config) box
}

var pgxDriver = driver{"pgx", func(t *testing.T, url string, connections int, config *inbox.Config) box {
	t.Helper()
	settings, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	settings.MaxConns = int32(connections)
	pool, err := pgxpool.NewWithConfig(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	i, err := inbox.New(pool, config)
	if err != nil {
		t.Fatal(err)
	}
	return boxOf[pgx.Tx]{
		i, inboxloop.New(i), func(tx pgx.Tx) transaction { return pgxTransaction{tx} },
		func(tx transaction) pgx.Tx { return tx.(pgxTransaction).Tx }, pool.Begin,
	}
}}

var sqlDriver = driver{"database-sql", func(t *testing.T, url string, connections int, config *inbox.Config) box {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	i, err := inboxsql.New(db, config)
	if err != nil {
		t.Fatal(err)
	}
	return boxOf[*sql.Tx]{
		i, inboxloop.New(i), func(tx *sql.Tx) transaction { return sqlTransaction{tx} },
		func(tx transaction) *sql.Tx { return tx.(sqlTransaction).Tx },
		func(ctx context.Context) (*sql.Tx, error) { return db.BeginTx(ctx, nil) },
	}
}}

// patience is how long a test waits for what must come; it fails then.
const patience = 20 * time.Second
