// Package outbox writes events into the outbox table, in the transaction of the business rows that
// they tell of: they commit together or not at all. The relay reads the table and publishes each
// event to Kafka.
//
//	tx, err := pool.Begin(ctx)
//	...
//	// Lock the aggregate first: by an UPDATE of its row, or SELECT .. FOR UPDATE.
//	tx.Exec(ctx, "UPDATE orders SET state = 'paid' WHERE id = $1", id)
//	outbox.Insert(ctx, tx, outbox.Message{
//		AggregateType: "order", AggregateID: id, Type: "OrderPaid", Payload: payload,
//	})
//	tx.Commit(ctx)
//
// # Order
//
// The events of one aggregate are published in the order in which their transactions locked the
// aggregate. So lock it before the insert: by an update of its row, a check of its version, or, if
// there is no such row, LockAggregate. If two transactions insert events of one aggregate without a
// lock, the events may be published in one order and the effects seen in the other.
//
// # Transactions
//
// Insert takes a pgx.Tx. A pool or a bare connection does not compile, because the event would
// commit by itself. A savepoint works too: an event that is rolled back to it is never published.
// For database/sql, package outboxsql has the same functions.
//
// Insert needs nothing of the session: no prepared statement, no setting, no session lock. So it
// works behind pgbouncer in transaction mode if the connection is set up for that
// (default_query_exec_mode=exec, or a pgbouncer that tracks prepared statements). All query modes
// of pgx are tested.
//
// # Identity
//
// Every message has an id: a UUIDv7 that Insert makes, unless the caller gives one. It is the
// header msg_id of the record, by which consumers recognise a message that they have handled;
// package inbox does that for them.
package outbox
