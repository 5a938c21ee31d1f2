package relay

import (
	"context"

	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/retention"
	"github.com/outbox-relay/relay/internal/takeover"
)

// openPipeline opens the pipeline of a lane that was taken over.
func (l *lane) openPipeline(
	ctx context.Context, row *lanestore.Row, owned *takeover.Owned,
) (*pipeline.Pipeline, error) {
	return pipeline.Open(ctx, pipeline.Deps{
		Row: row, Reader: owned.Reader, Producers: owned.Producers, Topics: owned.Topics, Log: owned.Log,
		Identity: owned.Identity, Last: owned.Last, LastOf: owned.LastOf,
	}, l.pipelineOptions(row), l.calls(row), l.memory)
}

func (l *lane) pipelineOptions(row *lanestore.Row) pipeline.Options {
	return pipeline.Options{
		Name: l.Name, Table: l.Table, PollMin: l.cfg.PollMin, PollMax: l.cfg.PollMax,
		RetryMin: l.cfg.RetryMin, RetryMax: l.cfg.RetryMax,
		TransactionTimeout: l.cfg.TransactionTimeout, WorkTimeout: l.cfg.workTimeout(),
		Reader: l.readerOptions(),
		Parking: parking.Options{
			Table: l.Table, Policy: l.cfg.Poison, Check: l.cfg.Check, Bytes: l.cfg.parkedBytes,
			Logger: l.cfg.Logger,
		},
		Retention: l.cleanerOptions(row), Step: l.cfg.Step, Logger: l.log,
	}
}

// calls are how the pipeline reaches the lane.
func (l *lane) calls(row *lanestore.Row) pipeline.Lane {
	return pipeline.Lane{
		Progressed: l.progressed, CaughtUp: l.caughtUp,
		Waiting: func(err error) { l.failed(Waiting, err) }, Working: l.running,
		Parked:    func(aggregates int) { l.parked.Store(int64(aggregates)) },
		Committed: l.committed,
		Hold:      func(ctx context.Context) error { return l.hold(ctx, row) },
		Status: func() (state, reason string) {
			status := l.status()
			return string(status.State), status.Reason
		},
	}
}

// cleanerOptions are nil if nothing is ever removed.
func (l *lane) cleanerOptions(row *lanestore.Row) *retention.Options {
	if l.cfg.Retention == KeepForever {
		return nil
	}
	return &retention.Options{
		Lane: l.Name, Table: l.Table, OID: row.Table().OID, Age: max(0, l.cfg.Retention),
		Database: l.cfg.sessions(), Server: row.Server(), Logger: l.log, Removed: l.cfg.Hooks.removed,
	}
}
