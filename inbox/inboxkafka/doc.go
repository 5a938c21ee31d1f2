// Package inboxkafka consumes Kafka topics through an inbox: each message has its effect exactly
// once and in the order of its key, through crashes, rebalances, duplicates and poison.
//
//	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
//	consumer, err := inboxkafka.New(in, inboxkafka.Handle(handle), &inboxkafka.Config{
//		Brokers: []string{"kafka:9092"},
//		Topics:  []string{"orders"},
//	})
//	err = consumer.Run(ctx)
//
// Run consumes until its context ends. The handler gets the transaction that marks its message as
// handled: a pgx.Tx if the inbox comes from inbox.New, a *sql.Tx if it comes from inboxsql.New.
// Handle calls it for each message, HandleBatch for many at a time, and AtMostOnce is for effects
// that no database rolls back. Offsets only say from where to fetch. They are committed after that
// transaction, so a crash in between brings messages back, and their marks tell that they were
// handled.
//
// # What happens to a message
//
// It is fetched with read_committed, identified, and waits in the queue of its key: topic and key
// of the record. Workers take keys in turn, each for a message or a batch. Messages of one key are
// handled one after the other; those without a key (null, not empty) when a worker is free. The
// group's offset moves to the first message of the partition that is not done, and never past it.
//
// A message is done if it was processed, or recognised as a duplicate, or parked. A failure is one
// of three:
//
//   - Transient, which is every error that says nothing else, and also a panic and a timeout: its
//     key waits (BackoffMin to BackoffMax, doubling, with jitter), other keys go on, and after
//     Attempts it is parked.
//   - Permanent (inbox.Permanent): it is parked at once.
//   - Unavailable (inbox.Unavailable, and the errors of Postgres that are about the server): the
//     whole process pauses. It stays in its group, fetches nothing, begins nothing, and tries with
//     one message now and then, of another key each time. This counts for no attempt. But a message
//     that says so again after others were handled has failed: one message cannot pass for an
//     outage.
//
// Parking keeps order: later messages of the key are parked behind. The command relay inbox parked
// shows them, and asks for a retry, which this package carries out in the live consumer.
//
// # Records without an identity
//
// A record that Identify makes no message of is not skipped: it is parked with the cause identity,
// under a source made of its topic and partition ("orders:3") and its offset and time as its id, in
// the order of its key, which then waits as any other parked key.
//
// # Messages that end the process
//
// A process notes in the database which partitions it works on. A process that finds such a note of
// another one knows of a crash, and begins the messages that may have been in flight then with
// care: it records each start before the handler runs. A message whose start is found recorded may
// be to blame. It is handled alone, with nothing else in flight in this process, so that only it
// can be to blame; and when the process has ended CrashLimit times meanwhile it is parked. So it
// takes one crash to notice, one more to record who was at work, and the rest to be sure.
//
// # Rebalances
//
// Rebalancing is cooperative by default: what does not move goes on. Of what moves nothing new
// begins, what is in flight has DrainTimeout to end, and then the offset is committed and the
// partition given back. Partitions that the group takes away without notice are left at once, and
// nothing is committed for them. An old owner that does not know of its loss cannot do harm: of two
// processes that handle one message the second one waits for the transaction of the first, and
// finds a duplicate.
//
// # Postgres crashes
//
// With synchronous_commit = off, or a standby that lags, a crash takes the last commits away.
// Before an offset is committed a flush must prove that Postgres has forgotten nothing that lies
// before it. If it may have, everything since the last flush is read once more: marks skip what is
// there, and the rest is handled again, in order.
//
// # Memory
//
// MaxRecords and MaxBytes bound what is held. A partition whose key waits stops when it holds its
// share, and the others go on: a quarter of the room is kept back for that.
//
// # Retention
//
// Run reads the settings of the topics and has marks kept for as long as a message can come back:
// retention.ms, segment.ms (a record lives as long as its segment) and ReplayWindow. A shorter
// Retention is refused. Old marks are removed in the background.
package inboxkafka
