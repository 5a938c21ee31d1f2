// Package lanestore is what Postgres knows of a lane: its row in relay_lanes, its binding to a
// table in relay_bindings, and the advisory lock that says who runs it.
//
// A Row is one session on that row. It takes the lock (lock.go), binds the lane to its table
// (binding.go), raises the epoch, and completes a takeover (row.go); while the lane runs it records
// each batch before it is committed (intent.go) and confirms the last one. past.go reads what the
// row said before, settings.go compares the settings of replicas, partition.go gives a lane its
// partition of the checkpoint topic.
//
// The lock is a hint for liveness. What keeps a lane safe is the epoch, which every write of the
// row checks, and the fence in Kafka. What a batch changes beside the row comes in as an interface
// or a function, and runs in the transaction of the row.
package lanestore
