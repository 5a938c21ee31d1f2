package load

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What the rows say of their events.
const (
	AggregateType = "account"
	EventType     = "Changed"
	ContentType   = "application/json"
	// Aggregates is how many keys a backlog has.
	Aggregates = 10_000
)

// Hashes × 32 bytes of a payload are hashes, which no codec compresses; they repeat beyond.
const Hashes = 32

// fillStep is how many rows one transaction inserts.
const fillStep = 250_000

// Backlog is rows that are inserted at once.
type Backlog struct {
	// Rows is how many, with the numbers from 0 on.
	Rows int
	// Size is how many bytes a payload has, at least 8.
	Size int
	// Keys is how many aggregates the rows belong to, in turn. Defaults to Aggregates.
	Keys int
	// Topic is that which the rows name. Defaults to none: where they go is left to who publishes.
	Topic string
	// Tell is told how many rows have been inserted. Defaults to nothing.
	Tell func(done int)
}

// Insert inserts the rows and returns the id of the last transaction that did.
func (b Backlog) Insert(ctx context.Context, conn *pgx.Conn) (xid string, err error) {
	if b.Keys == 0 {
		b.Keys = Aggregates
	}
	query := `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload)
SELECT '` + AggregateType + `', (i % ` + strconv.Itoa(b.Keys) + `)::text, '` + EventType + `', nullif($3::text, ''), ` +
		payloadExpression(b.Size) + ` FROM generate_series($1::bigint, $2::bigint) i`
	for from := 0; from < b.Rows; from += fillStep {
		to := min(from+fillStep, b.Rows)
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// What counts is the backlog, not how it came about.
			if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, query, from, to-1, b.Topic); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&xid)
		})
		if err != nil {
			return "", fmt.Errorf("insert rows: %w", err)
		}
		if b.Tell != nil {
			b.Tell(to)
		}
	}
	return xid, nil
}

// payloadExpression is the SQL of a payload of size bytes that begins with the number i, as Payload
// makes it.
func payloadExpression(size int) string {
	parts := []string{"int8send(i)"}
	for j := 0; 32*j < size-8 && j < Hashes; j++ {
		parts = append(parts, fmt.Sprintf("sha256(int8send(i + %d))", j))
	}
	text := strings.Join(parts, " || ")
	if size > 8+32*Hashes {
		text = fmt.Sprintf("decode(repeat(encode(%s, 'hex'), %d), 'hex')", text, size/(8+32*Hashes)+1)
	}
	return fmt.Sprintf("substr(%s, 1, %d)", text, size)
}

// Payload is a payload of size bytes that begins with the number i.
func Payload(i, size int) []byte {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, size+32), uint64(i))
	for j := 0; len(value) < size && j < Hashes; j++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i+j)))
		value = append(value, sum[:]...)
	}
	for len(value) < size {
		value = append(value, value[:min(len(value), size-len(value))]...)
	}
	return value[:size]
}
