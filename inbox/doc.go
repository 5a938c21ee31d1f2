// Package inbox is the consumer's side: each message has its effect exactly once, and in order for
// its key, through crashes, duplicates and poison. It needs a Postgres with the tables that relay
// inbox migrate up makes; where messages come from is left to the caller, and package inboxkafka is
// one that reads them from Kafka. With database/sql, see package inboxsql.
//
//	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
//	result, err := in.Handle(ctx, message, func(ctx context.Context, tx pgx.Tx) error {
//		_, err := tx.Exec(ctx, "UPDATE accounts SET ...")
//		return err
//	})
//
// # What it promises, and when
//
// The mark (consumer, source, id) is a row written in the transaction of the effect, so both commit
// or neither. That holds on three conditions. Handlers change nothing but the database, through tx:
// they may run several times before one run commits (for effects that no database rolls back there
// is AtMostOnce). Marks are kept for longer than a message may come again (Retain). And a process
// goes through the messages of one key in their order, deciding each before it begins the next. To
// decide is to end as Processed, Duplicate, Parked or Audited; Failed and Deferred are to be tried
// again.
//
// # Failures
//
// After an error nothing of the call is in the database. What the error is about:
//
//   - Its message, which is every error that says nothing else, also a panic, ErrTimeout and
//     ErrRolledBack. The caller tries the message again; what it says is Permanent is parked at once.
//   - The database, or something else that every message needs: IsUnavailable. This is no attempt of
//     the message. The outcome of a COMMIT may be unknown then, and the next Handle tells it.
//     ErrOwnStatement is one of these: if a statement of the inbox fails before a handler runs, no
//     message is to blame.
//   - Another transaction: serialization failures and deadlocks run again by themselves.
//
// A handler that returns after its context has ended has failed, even with nil. A driver does not
// send a statement whose context has ended, so a handler that swallows that error would leave half
// of its effect. A handler that ignores the end of its context is left behind: its connection is
// cut, so that it changes nothing more and holds neither a lock nor a connection of the pool.
//
// # Order without a lock on the key
//
// Handle takes no lock for a key that is well. A mark decides a message once, whichever process
// writes it first, and the second one waits for the end of that transaction. So even a process that
// was thought dead, and goes on with the same key, cannot invert effects: the other one has seen
// the earlier message committed before it begins the later one. In a batch the insert of a mark may
// wait for a process that parks that message; therefore a batch looks for parked keys in a
// statement after the marks, with a later snapshot.
//
// # Parking
//
// A message that cannot be handled goes to inbox_parked, with its mark, and each later one of its
// key goes there behind it; offsets move on. The key has a row in inbox_parked_keys, and three
// locks on it keep the queue whole. A process that adds a message holds it FOR KEY SHARE. A process
// that takes messages out (a retry) holds it FOR NO KEY UPDATE: one at a time, without making
// arrivals wait. And a process that finds the queue empty takes it FOR UPDATE, which waits for
// arrivals that are under way, looks at the queue once more in a later statement, and removes the
// row. An arrival that waits for that finds no row then, and is handled as usual.
//
// # Crashes
//
// A message that ends its process would do so forever. A consumer loop therefore records, after a
// crash, which messages it is about to handle, in the database; the record goes with the effect, in
// its transaction. Package inboxkafka does so, and package inboxloop is what it uses for that.
//
// # Packages
//
//   - inbox/inboxkafka is a whole consumer on Kafka, for pgx and for database/sql.
//   - inbox/inboxsql makes an Inbox on database/sql.
//   - inbox/inboxloop is for those who write a consumer loop of another kind.
//   - inbox/inboxdriver is for those who bring another type of transaction.
package inbox
