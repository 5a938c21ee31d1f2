// Package relay is the engine: it publishes each page of rows in one Kafka transaction together
// with a checkpoint, and recovers from any doubt by taking the lane over again.
//
// The files, from the outside in: relay.go and lane.go run the lanes of a process; ownership.go
// decides who runs a lane; takeover.go has internal/takeover make a process its owner; session.go is
// the pipeline of an owner; refusal.go finds out which row brokers refuse, release.go sends parked
// rows. What they stand on are packages of their own: see the map in DESIGN.md.
package relay
