// Package observe knows every metric that relays and consumers serve. It asks the code that serves
// them.
//
// Its tests write the tables of docs/metrics.md and the dashboards in deploy/grafana (go test
// ./internal/observe -update), and check that rules, dashboards, pages and runbooks name no metric
// that does not exist.
package observe
