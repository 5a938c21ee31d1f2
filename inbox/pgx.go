package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
)

// New returns an inbox on the tables that relay inbox migrate up makes. It opens no connection.
// Faults of the configuration are reported all at once.
func New(pool *pgxpool.Pool, config *Config) (*Inbox[pgx.Tx], error) {
	if pool == nil {
		return NewWithDriver[pgx.Tx](nil, config)
	}
	return NewWithDriver(pgxDriver{pool}, config)
}

type pgxDriver struct{ pool *pgxpool.Pool }

func (d pgxDriver) Begin(
	ctx context.Context, limit time.Duration, first ...inboxdriver.Statement,
) (inboxdriver.Tx, pgx.Tx, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	// A wait for a free connection is not bounded: it is others that are busy.
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	for _, s := range first {
		batch.Queue(s.SQL, arguments(s)...)
	}
	results := conn.SendBatch(ctx, batch)
	tx := &pgxTx{results.Tx(), conn, false}
	_, err = results.Exec()
	if err == nil {
		err = readBatch(results, first)
	}
	if err = errors.Join(err, other(results.Close(), err)); err != nil {
		// It is rolled back here, where it began, and the connection goes where it belongs, whatever
		// the error.
		return nil, nil, errors.Join(err, other(rollBackWithin(ctx, tx, limit), err))
	}
	return tx, tx.Tx, nil
}

// rollBackWithin rolls back whatever has become of the context.
func rollBackWithin(ctx context.Context, tx inboxdriver.Tx, limit time.Duration) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return tx.Rollback(limited)
}

func (d pgxDriver) Size() int { return int(d.pool.Stat().MaxConns()) }

func (d pgxDriver) Busy() bool {
	stat := d.pool.Stat()
	return stat.AcquiredConns() >= stat.MaxConns()
}

func (d pgxDriver) Wrap(tx pgx.Tx) inboxdriver.Tx { return &pgxTx{tx, nil, false} }

// pgxTx is a transaction, with the connection that goes back to the pool when it ends.
type pgxTx struct {
	pgx.Tx
	conn      *pgxpool.Conn
	abandoned bool
}

func (t *pgxTx) Send(ctx context.Context, statements ...inboxdriver.Statement) error {
	if len(statements) == 1 {
		rows, err := t.Query(ctx, statements[0].SQL, arguments(statements[0])...)
		if err != nil {
			return err
		}
		return readRows(rows, statements[0])
	}
	batch := &pgx.Batch{}
	for _, s := range statements {
		batch.Queue(s.SQL, arguments(s)...)
	}
	results := t.SendBatch(ctx, batch)
	err := readBatch(results, statements)
	return errors.Join(err, other(results.Close(), err))
}

// arguments puts arrays of UUIDs into the type that pgx sends in binary, and knows in every mode:
// Postgres takes twice as long to read them as text.
func arguments(s inboxdriver.Statement) []any {
	args := s.Args
	for n, arg := range args {
		keys, ok := arg.([]uuid.UUID)
		if !ok {
			continue
		}
		typed := make([]pgtype.UUID, len(keys))
		for k, key := range keys {
			typed[k] = pgtype.UUID{Bytes: key, Valid: true}
		}
		args = slices.Clone(args)
		args[n] = typed
	}
	return args
}

func readBatch(results pgx.BatchResults, statements []inboxdriver.Statement) error {
	for _, s := range statements {
		rows, err := results.Query()
		if err == nil {
			err = readRows(rows, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// other returns err unless it says the same as first: the end of a batch repeats the error of its
// statement.
func other(err, first error) error {
	if err == nil || first != nil && err.Error() == first.Error() {
		return nil
	}
	return err
}

func readRows(rows pgx.Rows, s inboxdriver.Statement) error {
	defer rows.Close()
	for rows.Next() {
		if s.Each == nil {
			continue
		}
		if err := s.Each(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if s.Affected != nil {
		*s.Affected = rows.CommandTag().RowsAffected()
	}
	return nil
}

func (t *pgxTx) Commit(ctx context.Context) error {
	defer t.release()
	if t.Conn().PgConn().IsBusy() {
		return fmt.Errorf("%w: rows are not closed", inboxdriver.ErrRolledBack)
	}
	err := t.Tx.Commit(ctx)
	_, refused := failure.SQLState(err)
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) || refused && !t.Conn().IsClosed() {
		return fmt.Errorf("%w: %w", inboxdriver.ErrRolledBack, err)
	}
	return err
}

func (t *pgxTx) Rollback(ctx context.Context) error {
	if t.abandoned {
		return nil
	}
	defer t.release()
	if err := t.Tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return err
	}
	return nil
}

// release destroys the connection if it is not fit for use any more. A second call does nothing.
func (t *pgxTx) release() {
	if t.conn != nil {
		t.conn.Release()
	}
}

func (t *pgxTx) Lost(context.Context) bool { return t.Conn().IsClosed() }

// Abandon closes the socket under the connection, which is allowed beside whatever reads or writes
// it; a statement that runs fails by that, and pgx has Postgres cancel it. Otherwise the connection
// is left to the goroutine that uses it: not even the pool touches it any more.
func (t *pgxTx) Abandon() {
	t.abandoned = true
	//nolint:errcheck // A socket that is closed already is as good.
	t.Conn().PgConn().Conn().Close()
	t.conn.Hijack()
}
