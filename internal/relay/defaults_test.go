package relay

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/outbox-relay/relay/internal/parking"
)

// WithDefaults fills in what package relay at the root of the module does for programs.
func (c Config) WithDefaults() Config {
	if len(c.Lanes) == 0 {
		c.Lanes = []Lane{{Name: "outbox", Table: "outbox"}}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Route = cmp.Or(c.Route, "outbox.event.{aggregate_type}")
	c.Partitioner = cmp.Or(c.Partitioner, "murmur2")
	c.Compression = cmp.Or(c.Compression, "snappy")
	c.ContentType = cmp.Or(c.ContentType, "application/json")
	c.Poison = cmp.Or(c.Poison, parking.Park)
	c.Topics.Timeout = cmp.Or(c.Topics.Timeout, 10*time.Second)
	c.BatchRows = cmp.Or(c.BatchRows, 5000)
	c.BatchBytes = cmp.Or(c.BatchBytes, 8<<20)
	c.Retention = cmp.Or(c.Retention, 24*time.Hour)
	c.PollMin = cmp.Or(c.PollMin, 2*time.Millisecond)
	c.PollMax = cmp.Or(c.PollMax, 50*time.Millisecond)
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, 15*time.Second)
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 6*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, 100*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 5*time.Second)
	c.Lanes = slices.Clone(c.Lanes)
	for i := range c.Lanes {
		c.Lanes[i].inherit(c)
	}
	return c.withInternals()
}

// inherit takes over what the lane leaves open.
func (l *Lane) inherit(c Config) {
	l.Route = cmp.Or(l.Route, c.Route)
	l.Partitioner = cmp.Or(l.Partitioner, c.Partitioner)
	l.Compression = cmp.Or(l.Compression, c.Compression)
	l.ContentType = cmp.Or(l.ContentType, c.ContentType)
	l.Poison = cmp.Or(l.Poison, c.Poison)
	l.BatchRows = cmp.Or(l.BatchRows, c.BatchRows)
	l.BatchBytes = cmp.Or(l.BatchBytes, c.BatchBytes)
	l.Retention = cmp.Or(l.Retention, c.Retention)
	l.PollMin = cmp.Or(l.PollMin, c.PollMin)
	l.PollMax = cmp.Or(l.PollMax, c.PollMax)
	if l.TopicsAllow == nil {
		l.TopicsAllow = c.Topics.Allow
	}
}
