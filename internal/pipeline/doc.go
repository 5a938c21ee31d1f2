// Package pipeline publishes the rows of a lane that this process owns, from the end of a takeover
// to the first doubt.
//
// Three goroutines pass a batch on. Each has its own type; channels join them in pipeline.go:
//
//	reader     reads the next page, while the batches before it are in flight; once a page had
//	           everything that was visible, only after its batch has committed
//	publisher  begins a transaction, produces the rows and the checkpoint, flushes; one batch at a
//	           time, so that records of a key keep their order
//	committer  waits for the batch before, then intent, checks, end; one batch at a time, so that
//	           committed batches are a prefix
//
// The first error ends all three. Nothing in memory survives it, but for Memory: the lane is taken
// over again, and starts from what the two logs say.
//
// The publisher has the help of topicWait, which waits until the topics of a page can be written
// to; isolation, which finds out which row the brokers refuse (it is poison); releases, which finds
// parked rows whose time has come; and transactions, which a checkpoint lists. What a page sends,
// parks and leaves out is planned in package parking.
//
// The package writes to Kafka through the lane's producers, and to Postgres the intents of batches,
// with what they park and release. It takes over nothing and retries nothing: the lane does, which
// it calls by the functions of Lane.
package pipeline
