package inboxsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
)

// New returns an inbox on the tables that relay inbox migrate up makes. It opens no connection.
// Faults of the configuration are reported all at once.
func New(db *sql.DB, config *inbox.Config) (*inbox.Inbox[*sql.Tx], error) {
	if db == nil {
		return inbox.NewWithDriver[*sql.Tx](nil, config)
	}
	return inbox.NewWithDriver(driver{db}, config)
}

type driver struct{ db *sql.DB }

// Begin begins the transaction with its own context: package sql would refuse to commit once that
// of the caller has ended, and ending it is how a transaction is abandoned.
func (d driver) Begin(
	ctx context.Context, limit time.Duration, first ...inboxdriver.Statement,
) (inboxdriver.Tx, *sql.Tx, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	limited, end := context.WithTimeout(ctx, limit)
	defer end()
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(limited, cancel)
	tx, err := conn.BeginTx(own, nil)
	if err != nil || !stop() {
		cancel()
		return nil, nil, errors.Join(limited.Err(), err, conn.Close())
	}
	begun := &transaction{tx: tx, conn: conn, cancel: cancel}
	if err := conn.Raw(func(conn any) error {
		if of, ok := conn.(ofPgx); ok {
			begun.cut = of.Conn().PgConn()
		}
		return nil
	}); err != nil {
		return nil, nil, errors.Join(err, begun.rollBackWithin(ctx, limit))
	}
	if err := begun.Send(limited, first...); err != nil {
		return nil, nil, errors.Join(err, begun.rollBackWithin(ctx, limit))
	}
	return begun, tx, nil
}

func (d driver) Size() int { return d.db.Stats().MaxOpenConnections }

func (d driver) Busy() bool {
	stats := d.db.Stats()
	return stats.MaxOpenConnections > 0 && stats.InUse >= stats.MaxOpenConnections
}

func (driver) Wrap(tx *sql.Tx) inboxdriver.Tx { return &transaction{tx: tx, cancel: func() {}} }

// transaction is a transaction, with the connection that goes back to the pool when it ends.
type transaction struct {
	tx     *sql.Tx
	conn   *sql.Conn
	cancel context.CancelFunc
	// cut is what is under the connection, if the driver is pgx.
	cut       *pgconn.PgConn
	abandoned bool
}

func (t *transaction) Send(ctx context.Context, statements ...inboxdriver.Statement) error {
	for _, s := range statements {
		if err := t.send(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) send(ctx context.Context, s inboxdriver.Statement) (err error) {
	if s.Each == nil {
		result, err := t.tx.ExecContext(ctx, s.SQL, arguments(s)...)
		if err == nil && s.Affected != nil {
			*s.Affected, err = result.RowsAffected()
		}
		return err
	}
	rows, err := t.tx.QueryContext(ctx, s.SQL, arguments(s)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := s.Each(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
	}
	return rows.Err()
}

// arguments puts arrays of UUIDs into their text form.
func arguments(s inboxdriver.Statement) []any {
	args := slices.Clone(s.Args)
	for n, arg := range args {
		if keys, ok := arg.([]uuid.UUID); ok {
			texts := make([]string, len(keys))
			for k, key := range keys {
				texts[k] = key.String()
			}
			args[n] = "{" + strings.Join(texts, ",") + "}"
		}
	}
	return args
}

func (t *transaction) Commit(ctx context.Context) error {
	defer t.cancel()
	defer context.AfterFunc(ctx, t.cancel)()
	err := t.tx.Commit()
	if err != nil && t.conn.PingContext(ctx) == nil {
		// The connection is there: Postgres has answered that it rolled back, or why it refused.
		err = fmt.Errorf("%w: %w", inboxdriver.ErrRolledBack, err)
	}
	return errors.Join(err, t.release())
}

// rollBackWithin rolls back whatever has become of the context.
func (t *transaction) rollBackWithin(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return t.Rollback(limited)
}

func (t *transaction) Rollback(ctx context.Context) error {
	if t.abandoned {
		return nil
	}
	defer t.cancel()
	defer context.AfterFunc(ctx, t.cancel)()
	err := t.tx.Rollback()
	if errors.Is(err, sql.ErrTxDone) {
		err = nil
	}
	return errors.Join(err, t.release())
}

// release gives the connection back; a second time does nothing.
func (t *transaction) release() error {
	if t.conn == nil {
		return nil
	}
	if err := t.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}

// ofPgx is what connections of github.com/jackc/pgx/v5/stdlib tell of themselves.
type ofPgx interface{ Conn() *pgx.Conn }

// lostTimeout bounds the time that is spent on asking.
const lostTimeout = 5 * time.Second

// Lost asks the connection, or the server if the driver does not tell. An answer that Postgres
// sent, even if it says that the transaction has failed, came over the connection.
func (t *transaction) Lost(ctx context.Context) bool {
	known, lost := false, false
	err := t.conn.Raw(func(conn any) error {
		of, ok := conn.(ofPgx)
		known, lost = ok, ok && of.Conn().IsClosed()
		return nil
	})
	if known || err != nil {
		return lost || err != nil
	}
	ctx, cancel := context.WithTimeout(ctx, lostTimeout)
	defer cancel()
	_, err = t.tx.ExecContext(ctx, "SELECT 1")
	return err != nil && !refused(err) && !errors.Is(err, sql.ErrTxDone)
}

// refused reports whether an error is one that Postgres sent.
func refused(err error) bool {
	_, sent := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return sent
}

// Abandon ends the context of the transaction, which package sql answers by rolling it back; but
// only once the statement that runs has ended, so the connection is cut if the driver lets us.
func (t *transaction) Abandon() {
	t.abandoned = true
	t.cancel()
	if t.cut != nil {
		//nolint:errcheck // A socket that is closed already is as good.
		t.cut.Conn().Close() // pgx has Postgres cancel the statement that fails by that
	}
	// Nothing waits for the handler, or for what it does to its rows.
	//nolint:errcheck // The connection is of no use any more.
	go t.conn.Close()
}
