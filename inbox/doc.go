// Package inbox is the consumer's side: each message has its effect exactly once, and in order for
// its key, through crashes, duplicates and poison. It needs the tables that relay inbox migrate up
// makes in Postgres. Most services use package inboxkafka, which reads messages from Kafka and
// calls this package; a service that gets messages from elsewhere calls it by itself:
//
//	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
//	result, err := in.Handle(ctx, message, func(ctx context.Context, tx pgx.Tx) error {
//		_, err := tx.Exec(ctx, "UPDATE accounts SET ...")
//		return err
//	})
//
// For database/sql, package inboxsql makes the same Inbox.
//
// # What it promises, and when
//
// That a message was handled is a row, its mark, with the consumer, the source and the id. The mark
// is written in the transaction of the effect, so both commit or neither does. There are three
// conditions:
//
//   - Handlers change nothing but the database, through tx, because they may run several times
//     before one run commits. For effects that no database rolls back there is AtMostOnce.
//   - Marks are kept for longer than a message may come again (Retain).
//   - A process takes the messages of one key in their order, and decides each before it begins the
//     next. Processed, Duplicate, Parked and Audited are decisions; a message that is Failed or
//     Deferred must be tried again.
//
// # Failures
//
// After an error nothing of the call is in the database. The error is about one of three:
//
//   - The message: every error that says nothing else, and also a panic, ErrTimeout and
//     ErrRolledBack. The caller tries the message again. If the handler says Permanent it is parked
//     at once.
//   - The database, or something else that every message needs: IsUnavailable reports true. This is
//     no attempt of the message. The outcome of a COMMIT may be unknown then; the next Handle finds
//     it out. If a statement of the inbox fails before a handler runs, the error is
//     ErrOwnStatement, and no message is to blame.
//   - Another transaction: after a serialization failure or a deadlock the inbox runs the
//     transaction again by itself.
//
// A handler that returns after its context has ended has failed, even with nil, because a driver
// sends no statement after that and half of the effect may be missing. A handler that ignores the
// end of its context is left behind: its connection is closed, so that it changes nothing more and
// holds neither a lock nor a connection of the pool.
//
// # Parking
//
// A message that cannot be handled is parked: it goes to inbox_parked, with its mark. Each later
// message of its key is parked behind it, in order, and other keys go on. The command relay inbox
// parked shows parked messages, and asks for a retry or a discard.
//
// # Crashes
//
// A message that ends its process would do so forever. So after a crash a consumer loop records in
// the database which messages it is about to handle; the transaction of the effect removes the
// record. Package inboxkafka does so.
//
// # Packages
//
//   - inbox/inboxkafka is a whole consumer on Kafka, for pgx and for database/sql.
//   - inbox/inboxsql makes an Inbox on database/sql.
//   - inbox/inboxloop is for programs with a consumer loop of another kind.
//   - inbox/inboxdriver is for programs with another type of transaction.
package inbox
