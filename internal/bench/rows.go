package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/bench/load"
)

// checkpoint has the server write its dirty pages, so that it does not do so during what is
// measured. A role that may not ask for that goes without.
func (p *place) checkpoint(ctx context.Context) error {
	_, err := p.conn.Exec(ctx, "CHECKPOINT")
	const notAllowed = "42501"
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == notAllowed {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// empty removes the rows, which have all been published, while no relay runs.
func (p *place) empty(ctx context.Context) error {
	if _, err := p.conn.Exec(ctx, "TRUNCATE outbox"); err != nil {
		return fmt.Errorf("empty the outbox: %w", err)
	}
	return nil
}

// mostRecordBytes bounds the records that the raw producer is fed from: more rows than that go
// round again.
const mostRecordBytes = 512 << 20

// records makes the records that the relay makes of filled rows, as many as there are rows, or as
// memory is set aside for.
func records(rows, size, batch int) []kgo.Record {
	const overhead = 500 // of a record and its headers
	made := make([]kgo.Record, min(rows, max(batch, mostRecordBytes/(size+overhead))))
	source := []byte("relay_bench_" + strings.Repeat("x", 12)) // as long as the name of a place
	created := []byte(time.Now().UTC().Format(time.RFC3339Nano))
	for i := range made {
		key := strconv.AppendInt(nil, int64(i%load.Aggregates), 10)
		made[i] = kgo.Record{Key: key, Value: load.Payload(i, size), Headers: []kgo.RecordHeader{
			{Key: "msg_id", Value: []byte(uuid.NewString())}, {Key: "source", Value: source},
			{Key: "type", Value: []byte(load.EventType)}, {Key: "aggregate_type", Value: []byte(load.AggregateType)},
			{Key: "content-type", Value: []byte(load.ContentType)}, {Key: "created_at", Value: created},
		}}
	}
	return made
}
