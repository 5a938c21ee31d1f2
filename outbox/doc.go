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
// The events of one aggregate are published in the order in which their transactions took the
// aggregate. That order is the caller's to make: lock the aggregate's row, or check its version,
// before the insert. If there is no row to lock, LockAggregate takes an advisory lock. Two
// transactions that insert events of one aggregate without either can have their events published
// in one order and their effects seen in the other.
//
// # Transactions
//
// Insert takes a pgx.Tx and nothing less, so that a pool or a bare connection, on which an event
// would commit by itself, does not compile. A transaction begun on another (a savepoint) works like
// any: an event rolled back to a savepoint is never published. Code that uses database/sql finds
// the same functions in package outboxsql.
//
// Nothing here depends on the session: no prepared statement, no setting, no session
// lock. Statements run in the query mode of the connection. Behind pgbouncer in transaction mode, a
// connection that is set up for it (default_query_exec_mode=exec, or a pgbouncer that tracks
// prepared statements) serves Insert as it serves every other query; all modes of pgx are tested.
//
// # Identity
//
// Every message has an id, a UUIDv7 made here unless the caller gives one. It travels as the header
// msg_id, and consumers that record it can drop a message that they have seen.
package outbox
