// Package telemetry counts what the relay does, for Prometheus.
//
// Metrics has its own registry, so nothing is global and tests run side by side. Its
// Hooks are for relay.Config: batches, takeovers and changes of state are counted as they happen
// (metrics.go). What is a state rather than an event (the state of a lane, its last progress) is
// read from the engine at each scrape (lanes.go), see Watch. docs/metrics.md documents every metric, and a test compares the
// two.
package telemetry
