package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What rows and records look like. Payloads are hashes, which no codec compresses, up to hashes ×
// 32 bytes, and repeat beyond.
const (
	aggregates    = 10_000
	aggregateType = "account"
	eventType     = "Changed"
	contentType   = "application/json"
	hashes        = 32
)

// fillStep is how many rows one transaction inserts.
const fillStep = 250_000

// fill inserts rows and returns the id of the last transaction that did.
func (p *place) fill(ctx context.Context, rows, size int, tell func(done int)) (xid string, err error) {
	query := `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
SELECT '` + aggregateType + `', (i % ` + strconv.Itoa(aggregates) + `)::text, '` + eventType + `', ` + payloadExpression(size) + `
FROM generate_series($1::bigint, $2::bigint) i`
	for from := 0; from < rows; from += fillStep {
		to := min(from+fillStep, rows)
		err := pgx.BeginFunc(ctx, p.conn, func(tx pgx.Tx) error {
			// What counts is the backlog, not how it came about.
			if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, query, from, to-1); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&xid)
		})
		if err != nil {
			return "", fmt.Errorf("insert rows: %w", err)
		}
		tell(to)
	}
	return xid, nil
}

// payloadExpression is the SQL of a payload of size bytes that begins with the number i, as payload
// makes it.
func payloadExpression(size int) string {
	parts := []string{"int8send(i)"}
	for j := 0; 32*j < size-8 && j < hashes; j++ {
		parts = append(parts, fmt.Sprintf("sha256(int8send(i + %d))", j))
	}
	text := strings.Join(parts, " || ")
	if size > 8+32*hashes {
		text = fmt.Sprintf("decode(repeat(encode(%s, 'hex'), %d), 'hex')", text, size/(8+32*hashes)+1)
	}
	return fmt.Sprintf("substr(%s, 1, %d)", text, size)
}

// payload is a payload of size bytes that begins with the number i.
func payload(i, size int) []byte {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, size+32), uint64(i))
	for j := 0; len(value) < size && j < hashes; j++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i+j)))
		value = append(value, sum[:]...)
	}
	for len(value) < size {
		value = append(value, value[:min(len(value), size-len(value))]...)
	}
	return value[:size]
}

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
		made[i] = kgo.Record{Key: strconv.AppendInt(nil, int64(i%aggregates), 10), Value: payload(i, size), Headers: []kgo.RecordHeader{
			{Key: "msg_id", Value: []byte(uuid.NewString())}, {Key: "source", Value: source},
			{Key: "type", Value: []byte(eventType)}, {Key: "aggregate_type", Value: []byte(aggregateType)},
			{Key: "content-type", Value: []byte(contentType)}, {Key: "created_at", Value: created},
		}}
	}
	return made
}
