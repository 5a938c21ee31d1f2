package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Inbox is the inbox of a service that uses pgx.
type Inbox = Of[pgx.Tx]

// New returns an inbox on the tables that relay inbox migrate up makes. It opens no connection. Faults of the configuration are
// reported all at once.
func New(pool *pgxpool.Pool, config *Config) (*Inbox, error) {
	if pool == nil {
		return nil, errors.New("inbox: the pool is nil")
	}
	return NewOf(pgxDriver{pool}, config)
}

type pgxDriver struct{ pool *pgxpool.Pool }

func (d pgxDriver) Begin(ctx context.Context) (Tx, pgx.Tx, error) {
	tx, err := d.pool.Begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	return pgxTx{tx}, tx, nil
}

func (d pgxDriver) Wrap(tx pgx.Tx) Tx { return pgxTx{tx} }

type pgxTx struct{ tx pgx.Tx }

func (t pgxTx) Send(ctx context.Context, statements ...Statement) error {
	if len(statements) == 1 {
		rows, err := t.tx.Query(ctx, statements[0].SQL, statements[0].Args...)
		if err != nil {
			return err
		}
		return readRows(rows, statements[0])
	}
	batch := &pgx.Batch{}
	for _, s := range statements {
		batch.Queue(s.SQL, s.Args...)
	}
	results := t.tx.SendBatch(ctx, batch)
	for _, s := range statements {
		rows, err := results.Query()
		if err == nil {
			err = readRows(rows, s)
		}
		if err != nil {
			// The end of the batch repeats the error of its statement.
			return errors.Join(err, other(results.Close(), err))
		}
	}
	return results.Close()
}

// other returns err unless it says the same as first.
func other(err, first error) error {
	if err == nil || err.Error() == first.Error() {
		return nil
	}
	return err
}

func readRows(rows pgx.Rows, s Statement) error {
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

func (t pgxTx) Commit(ctx context.Context) error { return t.tx.Commit(ctx) }

func (t pgxTx) Rollback(ctx context.Context) error {
	if err := t.tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return err
	}
	return nil
}

func (t pgxTx) Lost(context.Context) bool { return t.tx.Conn().IsClosed() }

// Abandon closes the socket under the connection: closing a socket is allowed beside whatever reads or writes it, which then fails.
func (t pgxTx) Abandon() {
	//nolint:errcheck // A socket that is closed already is as good.
	t.tx.Conn().PgConn().Conn().Close()
}
