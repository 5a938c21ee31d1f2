// Package metrics is the room for what a real Prometheus makes of relays and consumers that run: each
// panel of the dashboards has an answer, and the alert rules are silent while all is well.
package metrics
