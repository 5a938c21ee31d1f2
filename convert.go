package relay

import (
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/recovery"
	engine "github.com/outbox-relay/relay/internal/relay"
)

// forEngine checks the Config and makes of it what the engine takes.
func (c *Config) forEngine() (engine.Config, error) {
	c = c.WithDefaults()
	if err := c.validate(); err != nil {
		return engine.Config{}, err
	}
	name, err := c.deployment()
	if err != nil {
		return engine.Config{}, err
	}
	lanes, shared := make([]engine.Lane, len(c.Lanes)), c.shared()
	for i, l := range c.Lanes {
		lanes[i] = l.over(shared).forEngine()
	}
	return engine.Config{
		DatabaseURL: c.DatabaseURL, DatabaseURLFunc: c.DatabaseURLFunc, Brokers: c.Brokers, Name: name, Lanes: lanes,
		Topics: engine.Topics{
			Create: c.Topics.Create, Partitions: c.Topics.Partitions, ReplicationFactor: c.Topics.ReplicationFactor,
			Timeout: c.Topics.Timeout,
		},
		Check: c.Check, TransactionTimeout: c.TransactionTimeout, SessionTimeout: c.SessionTimeout,
		DrainTimeout: c.DrainTimeout, RetryMin: c.RetryMin, RetryMax: c.RetryMax,
		KafkaOptions: c.KafkaOptions, Logger: c.Logger, Hooks: c.Hooks.forEngine(),
	}, nil
}

func (l Lane) forEngine() engine.Lane {
	return engine.Lane{
		Name: l.Name, Table: l.Table, Route: l.Route, TopicsAllow: l.TopicsAllow, Partitioner: l.Partitioner,
		Compression: l.Compression, ContentType: l.ContentType, Poison: parking.Policy(l.Poison),
		BatchRows: l.BatchRows, BatchBytes: l.BatchBytes, Retention: l.Retention, PollMin: l.PollMin, PollMax: l.PollMax,
	}
}

// forRecovery checks the Config and makes of it what the recovery of a lane takes.
func (c *Config) forRecovery(lane string) (recovery.Options, error) {
	e, err := c.forEngine()
	if err != nil {
		return recovery.Options{}, err
	}
	o := recovery.Options{
		DatabaseURL: e.DatabaseURLFunc, Brokers: e.Brokers, KafkaOptions: e.KafkaOptions, Name: e.Name, Lane: lane,
		TransactionTimeout: e.TransactionTimeout, Logger: e.Logger,
	}
	if o.DatabaseURL == nil {
		o.DatabaseURL = func() (string, error) { return e.DatabaseURL, nil }
	}
	for _, l := range e.Lanes {
		o.Lanes = append(o.Lanes, l.Name)
		if l.Name == lane {
			o.Table, o.Route, o.TopicsAllow = l.Table, l.Route, l.TopicsAllow
			o.Agreed = e.Agreed(l)
		}
	}
	return o, nil
}

func findings(found *recovery.Findings) *Findings {
	f := &Findings{
		Lane: found.Lane, Table: found.Table, Cause: Cause(found.Cause), Diagnosis: found.Diagnosis, Try: found.Try,
		found: found,
	}
	for _, o := range found.Choices {
		f.Choices = append(f.Choices, option(o))
	}
	for _, c := range found.Closed {
		f.Closed = append(f.Closed, ClosedOption{Choice(c.Choice), c.Reason})
	}
	return f
}

func option(o recovery.Option) Option {
	return Option{
		Choice: Choice(o.Choice), From: o.From, Meaning: o.Meaning, Caution: o.Caution,
		New: rows(o.New), Again: rows(o.Again), Skipped: rows(o.Skipped),
	}
}

func rows(r recovery.Rows) Rows {
	return Rows{Count: r.Count, First: (*Row)(r.First), Last: (*Row)(r.Last)}
}
