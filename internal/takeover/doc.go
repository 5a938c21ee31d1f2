// Package takeover makes a process the owner of a lane. There is one recovery path, and start-up is
// it: Take.
//
//  1. bind: find the lane's table, and check that the lane belongs to it;
//  2. raise the epoch: check that the server is a primary, and raise the epoch in Postgres, so that
//     the predecessor's next intent fails. Open the reader on the same server;
//  3. read unfenced: read the checkpoint as far as it can be read. What contradicts it halts here,
//     before a predecessor that works is disturbed;
//  4. close and fence: close what brokers have left open of the lane's last transactions, and fence
//     every transactional id of the pool, the first one first;
//  5. read fenced: write a sentinel with the first id and read the log up to it. The last
//     checkpoint is then decided and final;
//  6. complete: check that both logs agree, close what only the last checkpoint decides, write a
//     first or changed checkpoint, and withdraw an intent that never became a commit.
//
// The epoch is raised before the fence and is checked by the last step. So a process that completes
// has read a log that no other has written to since, because the next writer must have raised
// the epoch after it. Statements on the lane's row run on the session that holds the lane's lock.
// Whatever else is waited for, that session is pinged meanwhile (Row.PingWhile).
//
// Kafka is the Kafka side of it (kafka.go): a recovery takes a lane over with that alone, because
// it reads no rows and writes only a checkpoint.
//
// The package stands on the rooms below it (lanestore, outboxread, checkpoint, topics, kafkatx). It
// does not know what the owner does afterwards.
package takeover
