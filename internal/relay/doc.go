// Package relay is the engine: it reads the outbox in windows between two snapshots, publishes each page of rows in one
// Kafka transaction together with a checkpoint, and recovers from any doubt by taking the lane over anew.
//
// The files, from the outside in: relay.go and lane.go run the lanes of a process; membership.go and ownership.go decide
// who runs a lane; takeover.go makes a process its owner; session.go is the pipeline of an owner; window.go and page.go
// read rows and make records of them; ring.go holds the transactional producers; lanerow.go is the Postgres side of
// ownership (epoch, intent, lock), checkpointlog.go the Kafka side.
package relay
