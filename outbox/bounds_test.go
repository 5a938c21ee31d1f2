package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/internal/exampledb"
)

// What Insert takes the table takes, and what one refuses the other does: by name, and at the same
// length.
func TestInsertAndTheTableHaveTheSameBounds(t *testing.T) {
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	// Every sign that Postgres writes in another length than it has: the text of the headers is
	// what is bounded.
	signs := "\"\\\b\f\n\r\t\x01\x1fé<&\u2028\x7f/"
	const signsText = `\"\\\b\f\n\r\t\u0001\u001fé<&` + "\u2028\x7f/"
	for _, c := range []struct {
		column, field, constraint, says string
		longest                         int
		set                             func(*outbox.Message, int)
	}{
		{"aggregate_type", "AggregateType", "outbox_name_must_have_1_to_255_bytes", "is 256 bytes long; the limit is 255", 255,
			func(m *outbox.Message, n int) { m.AggregateType = "é" + strings.Repeat("a", n-2) }},
		{"aggregate_id", "AggregateID", "outbox_key_must_have_1_to_1024_bytes", "is 1025 bytes long; the limit is 1024", 1024,
			func(m *outbox.Message, n int) { m.AggregateID = "é" + strings.Repeat("a", n-2) }},
		{"type", "Type", "outbox_name_must_have_1_to_255_bytes", "is 256 bytes long; the limit is 255", 255,
			func(m *outbox.Message, n int) { m.Type = "é" + strings.Repeat("a", n-2) }},
		{"topic", "Topic", "outbox_topic_must_have_1_to_249_bytes", "is 250 characters long; Kafka allows 249", 249,
			func(m *outbox.Message, n int) { m.Topic = strings.Repeat("a", n) }},
		{"headers", "Headers", "outbox_headers_must_be_an_object_of_at_most_64_kib", "are 65537 bytes as JSON; the limit is 65536", 65536,
			func(m *outbox.Message, n int) {
				m.Headers = map[string]string{"a": signs, "b": strings.Repeat("v", n-len(`{"a": "", "b": ""}`)-len(signsText))}
			}},
	} {
		fits, not := message(), message()
		c.set(&fits, c.longest)
		c.set(&not, c.longest+1)
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := outbox.Insert(ctx, tx, fits); err != nil {
			t.Errorf("%s of %d bytes: %v", c.column, c.longest, err)
		}
		var invalid *outbox.InvalidError
		if _, err := outbox.Insert(ctx, tx, not); !errors.As(err, &invalid) || len(invalid.Faults) != 1 ||
			invalid.Faults[0].Field != c.field || invalid.Faults[0].Reason != c.says {
			t.Errorf("%s of %d bytes: %v", c.column, c.longest+1, err)
		}
		var topic *string
		if not.Topic != "" {
			topic = &not.Topic
		}
		headers, err := json.Marshal(not.Headers)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(ctx, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, headers)
VALUES ($1, $2, $3, $4, nullif($5::text, 'null')::jsonb)`, not.AggregateType, not.AggregateID, not.Type, topic, string(headers))
		if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.ConstraintName != c.constraint {
			t.Errorf("%s of %d bytes in the table: %v", c.column, c.longest+1, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func message() outbox.Message {
	return outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderPaid", Topic: "orders"}
}
