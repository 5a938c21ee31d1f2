// Package admin serves metrics and health over HTTP.
//
// Liveness says that the process runs. Readiness says that it makes progress: an open port or a
// connected client proves nothing about events that reach Kafka. A lane is ready while it completes
// reads or commits, however little there is to publish; a lane that another process runs is ready
// too. Nothing that is served changes anything.
package admin
