// Package telemetry counts what the relay does, for Prometheus.
//
// Metrics has its own registry, so nothing is global and tests run side by side. Its Hooks are for
// relay.Config: batches, takeovers and changes of state are counted as they happen (metrics.go,
// delays.go). What is a state rather than an event is read from the engine at each scrape
// (lanes.go), see Watch; what only the owner of a lane knows is served only while this process has
// the lane. Every counter is there from the start, at zero: a rule cannot tell an increase from a
// series that was not there before. docs/metrics.md documents every metric, and a test compares the
// two.
package telemetry
