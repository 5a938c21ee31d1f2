package victim

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// query is one statement of the business code; into receives the text of its only row, unless it is
// nil.
type query struct {
	text string
	args []any
	into *string
}

// transaction is what the business code does in one, of either driver.
type transaction interface {
	run(ctx context.Context, queries ...query) error
}

type pgxTransaction struct{ pgx.Tx }

// run sends all queries at once.
func (t pgxTransaction) run(ctx context.Context, queries ...query) error {
	batch := &pgx.Batch{}
	for _, q := range queries {
		queued := batch.Queue(q.text, q.args...)
		if q.into != nil {
			queued.QueryRow(func(row pgx.Row) error { return row.Scan(q.into) })
		}
	}
	return t.SendBatch(ctx, batch).Close()
}

type sqlTransaction struct{ *sql.Tx }

func (t sqlTransaction) run(ctx context.Context, queries ...query) error {
	for _, q := range queries {
		var err error
		if q.into != nil {
			err = t.QueryRowContext(ctx, q.text, q.args...).Scan(q.into)
		} else {
			_, err = t.ExecContext(ctx, q.text, q.args...)
		}
		if err != nil {
			return fmt.Errorf("run a query: %w", err)
		}
	}
	return nil
}

// handler returns the business code for one type of transaction.
func handler[TTx any](s *service, settings Settings, wrap func(TTx) transaction) inboxkafka.Handler[TTx] {
	switch {
	case settings.Mails != "":
		return inboxkafka.AtMostOnce[TTx](s.mail)
	case settings.Batch:
		return inboxkafka.HandleBatch(func(ctx context.Context, tx TTx, messages []inbox.Message) error {
			return s.handleAll(ctx, wrap(tx), messages)
		})
	}
	return inboxkafka.Handle(func(ctx context.Context, tx TTx, m inbox.Message) error {
		return s.handleAll(ctx, wrap(tx), []inbox.Message{m})
	})
}
