// Package relay is the engine: it runs the lanes of a process, and recovers from any doubt by
// taking a lane over again.
//
// The files, from the outside in: relay.go and lane.go run the lanes; ownership.go decides who runs
// a lane; takeover.go has internal/takeover make a process its owner, and pipeline.go has
// internal/pipeline publish its rows. What they stand on are packages of their own: see the map in
// DESIGN.md.
package relay
