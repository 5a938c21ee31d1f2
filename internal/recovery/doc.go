// Package recovery is relay recover: it looks at a lane whose two logs contradict each other, says
// what each choice would do, and carries one out.
//
// Inspect (recovery.go) reads both logs and changes nothing; what it says are Findings
// (findings.go). choices.go decides which choices are open, count.go counts what each would do, and
// scan.go reads the data topics for that, if it is asked to. Apply (apply.go) takes the lane over,
// as internal/takeover does for a relay, and writes one checkpoint into both logs. report.go is the
// form for people; as JSON the types are what docs/recovery.md describes.
//
// It finds contradictions by the comparison that every takeover makes (internal/checkpoint), so the
// two can never differ. It writes to relay_lanes, relay_bindings, relay_recoveries, outbox_parked
// and the checkpoint topic, and it publishes no rows.
package recovery
