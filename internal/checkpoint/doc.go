// Package checkpoint owns how far a lane is by its two logs, the checkpoints in Kafka and its row
// in Postgres, and the comparison of the two.
//
// A checkpoint rides in every Kafka transaction beside the rows: it is the decision that they are
// published. Record is that record, Log the partition of the compacted topic that it stands on.
// Compare sets the last checkpoint against the lane's row in Postgres. If the two contradict each
// other, the result is a HaltError: the lane stops, and a person chooses how it goes on.
//
// The package asks brokers about the checkpoint topic only. What Postgres says arrives as a Row and
// a Server; reading those belongs to the caller.
package checkpoint
