//go:build bench

package peers

import "context"

// contender publishes the rows of one outbox. The test calls it from one goroutine.
type contender interface {
	// prepare does what comes before the first row, once. Afterwards nothing is published.
	prepare(ctx context.Context) error
	// start has it publish; it may return before that has begun.
	start(ctx context.Context) error
	// suspend stops it in order, once everything is published.
	suspend(ctx context.Context) error
	// kill ends its processes with SIGKILL, and revive starts them again at once.
	kill() error
	revive(ctx context.Context) error
	// ids are those of its processes.
	ids() []int
	// close ends it and removes what it has made on the servers.
	close(ctx context.Context) error
}

// outbox is where a contender works.
type outbox struct {
	name    string // of the database, and of what a contender makes
	url     string
	brokers []string
}
