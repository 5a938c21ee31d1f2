package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// ErrSchema is what Check returns if tables of the inbox are missing.
var ErrSchema = errors.New("inbox: tables are missing")

// required are those that the migrations make.
var required = []string{
	"inbox", "inbox_consumers", "inbox_parked_keys", "inbox_parked", "inbox_started", "inbox_sessions",
	"inbox_claims", "inbox_audit",
	"inbox_sweeps", "inbox_retentions", "inbox_incarnation",
}

// Check looks whether the tables are there, for a service that wants to fail when it starts and not
// with its first message. The error is ErrSchema if one is missing; one that IsUnavailable says
// nothing about the tables.
func (i *Inbox[TTx]) Check(ctx context.Context) error {
	var missing []string
	err := i.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: i.ledger.SQL.Missing, Args: []any{tables.TextArray(required), tables.Qualified(i.cfg.Schema, "{")},
			Each: func(row inboxdriver.Row) error {
				var name string
				err := row.Scan(&name)
				missing = append(missing, name)
				return err
			},
		}))
	})
	if err != nil {
		return fmt.Errorf("look for the tables of the inbox: %w", err)
	}
	if missing == nil {
		return nil
	}
	where := "the search_path"
	if i.cfg.Schema != "" {
		where = "schema " + i.cfg.Schema
	}
	return fmt.Errorf("%w in %s: %s; relay inbox migrate up makes them, in the database that the handlers write to",
		ErrSchema, where,
		strings.Join(missing, ", "))
}
