// Package kafkatx owns the Kafka transactions of a lane: who may begin one, what is in it, and that
// each is seen to its end.
//
// Pool holds the transactional producers of a lane. A takeover fences all of them; then each Begin
// hands out a Txn: Produce, Flush, and Commit or Abort. Markers follows every transaction until its
// markers stand on all partitions, and only then frees its id. Closing writes, in a takeover, the
// markers that brokers have left out.
//
// A coordinator answers a commit once its decision is durable, and writes the markers afterwards.
// If a partition has no leader then, Kafka 4.3.1 leaves its marker out and notes that the
// transaction is complete (KAFKA-20734). The partition holds the transaction open: read_committed
// readers stand still in front of it, and the next marker of that producer id decides it, whatever
// the coordinator had decided.
//
// The package knows nothing of Postgres and of rows. It tells what it waits for through Reports.
package kafkatx
