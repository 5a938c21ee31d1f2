// Package relay is the engine: it reads the outbox in windows between two snapshots, publishes each page
// of rows in one Kafka transaction together with a checkpoint, and after any doubt takes the lane over
// again.
//
// It puts packages of their own together: outboxread reads pages of rows and makes records of them,
// kafkatx has the transactional producers, topics knows what may be written to, checkpoint is the log in
// Kafka and lanestore the lane's row in Postgres, and election is the group that shares the lanes.
//
// The files, from the outside in: relay.go and lane.go run the lanes of a process; ownership.go decides
// who runs a lane; takeover.go makes a process its owner; session.go is the pipeline of an owner;
// parking.go, refusal.go and release.go are about rows that cannot be sent.
package relay
