package relay

import (
	"context"

	engine "github.com/outbox-relay/relay/internal/relay"
)

// Relay publishes the outbox tables of one database to one Kafka cluster. It is safe for concurrent
// use.
type Relay struct {
	name   string
	engine *engine.Relay
}

// New returns a Relay. It connects to nothing. Its error lists every fault of the Config, each
// after the name of the setting as cmd/relay has it, such as "batch.rows"; the Config is not
// changed.
func New(config *Config) (*Relay, error) {
	cfg, err := config.forEngine()
	if err != nil {
		return nil, err
	}
	return &Relay{name: cfg.Name, engine: engine.New(cfg)}, nil
}

// Run publishes until ctx is cancelled. It then waits up to Config.DrainTimeout for the batches in
// flight and returns nil. While something is unavailable it waits, and a lane that halts does not
// end Run: see Status. It returns an error only for what waiting cannot fix, and if this Relay
// runs already.
func (r *Relay) Run(ctx context.Context) error { return r.engine.Run(ctx) }

// Status returns the state of every lane in this process, in the order of Config.Lanes. It is empty
// while Run does not run.
func (r *Relay) Status() []LaneStatus {
	known := r.engine.Status()
	if known == nil {
		return nil
	}
	lanes := make([]LaneStatus, len(known))
	for i, l := range known {
		lanes[i] = laneStatus(l)
	}
	return lanes
}

// Name returns Config.Name, or the name of the database if that is empty.
func (r *Relay) Name() string { return r.name }
