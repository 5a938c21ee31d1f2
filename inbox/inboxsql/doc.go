// Package inboxsql makes an inbox for services that use database/sql.
//
//	in, err := inboxsql.New(db, &inbox.Config{Consumer: "billing"})
//	result, err := in.Handle(ctx, message, func(ctx context.Context, tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE accounts SET ...")
//		return err
//	})
//
// It is the same inbox.Inbox that pgx has, with the same tables, and both may work on them at the
// same time. Package inboxkafka takes it for a whole consumer. Everything else is as package inbox
// describes it.
//
// Any driver for Postgres will do whose errors tell their SQLSTATE by a method SQLState, as those
// of github.com/jackc/pgx/v5/stdlib and github.com/lib/pq do. With the former, a handler that
// ignores the end of its context has its connection cut at once; with others, once its statement
// ends.
package inboxsql
