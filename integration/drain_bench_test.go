//go:build bench

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The drain of a backlog beside a raw franz-go transactional producer that is fed the same records from memory: the same
// keys, values, headers, batch size, compression and partitions, on the same broker, in turn, in one run. The raw producer
// runs with one transactional id, as programs do, and with the relay's six in turn.
func TestDrainBesideARawProducer(t *testing.T) {
	const batchRows, partitions, rounds = 5000, 12, 3
	rows := 1_000_000
	if text := os.Getenv("RELAY_TEST_BENCH_ROWS"); text != "" {
		var err error
		if rows, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	records := benchRecords(rows)
	var sumRelay, sumOne, sumRing float64
	for round := range rounds {
		one := rawProducer(t, records, batchRows, 1, topic(t, partitions))
		drain := relayDrain(t, rows)
		ring := rawProducer(t, records, batchRows, 6, topic(t, partitions))
		t.Logf("round %d: relay %.0f rows/s, raw with one id %.0f (ratio %.2f), raw with six ids %.0f (ratio %.2f)",
			round+1, drain, one, drain/one, ring, drain/ring)
		sumRelay, sumOne, sumRing = sumRelay+drain, sumOne+one, sumRing+ring
	}
	t.Logf("mean: relay %.0f rows/s; ratio to raw with one id %.2f, with six ids %.2f", sumRelay/rounds, sumRelay/sumOne, sumRelay/sumRing)
}

// benchRecords makes the records that the relay makes of the rows of fillOutbox.
func benchRecords(rows int) []kgo.Record {
	records := make([]kgo.Record, rows)
	created := time.Now().UTC().Format(time.RFC3339Nano)
	for i := range records {
		value := binary.BigEndian.AppendUint64(nil, uint64(i))
		for j := range 6 {
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i+j)))
			value = append(value, sum[:]...)
		}
		records[i] = kgo.Record{Key: []byte(strconv.Itoa(i % 10000)), Value: value, Headers: []kgo.RecordHeader{
			{Key: "msg_id", Value: []byte(uuid.NewString())}, {Key: "type", Value: []byte("Changed")},
			{Key: "aggregate_type", Value: []byte("account")}, {Key: "content-type", Value: []byte("application/json")},
			{Key: "created_at", Value: []byte(created)},
		}}
	}
	return records
}

// rawProducer publishes the records and returns records a second.
func rawProducer(t *testing.T, records []kgo.Record, batch, ids int, topic string) float64 {
	t.Helper()
	clients := make([]*kgo.Client, ids)
	for i := range clients {
		clients[i] = kafkaClient(t, brokers(t), kgo.TransactionalID(uniqueName(t)), kgo.ProducerLinger(0),
			kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
			kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		if _, _, err := clients[i].ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	turn := 0
	for from := 0; from < len(records); from += batch {
		client := clients[turn%ids]
		turn++
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var failed error
		for i := from; i < min(from+batch, len(records)); i++ {
			records[i].Topic = ""
			client.Produce(t.Context(), &records[i], func(_ *kgo.Record, err error) {
				if err != nil {
					failed = err
				}
			})
		}
		if err := client.Flush(t.Context()); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	return float64(len(records)) / time.Since(began).Seconds()
}

// relayDrain fills an outbox and returns how many rows a second the relay publishes of it, from its first intent to its
// last.
func relayDrain(t *testing.T, rows int, more ...string) float64 {
	t.Helper()
	url := database(t)
	route, topic := routeOf(t)
	fillOutbox(t, url, rows)
	execute(t, url, "CHECKPOINT")
	createTopic(t, brokers(t), topic, 12)
	conn := connect(t, url)
	r := startRelay(t, relaySettings(t, url, brokers(t), append(more, route)...), "run")
	r.AwaitLog(time.Minute, "lane taken over")
	began := time.Now()
	eventually(t, 5*time.Minute, "everything is published", func() bool { return drained(t, conn) })
	took := time.Since(began)
	t.Logf("peak resident memory of the relay: %d MB", residentBytes(t, r.ID(), "VmHWM")>>20)
	r.Terminate()
	r.Wait(time.Minute)
	return float64(rows) / took.Seconds()
}

// drained reports whether the window of the backlog has been closed.
func drained(t *testing.T, conn *pgx.Conn) bool {
	t.Helper()
	var open bool
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := conn.QueryRow(ctx, "SELECT seq < 2 OR snapshot_to IS NOT NULL FROM relay_lanes").Scan(&open)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(fmt.Errorf("read the lane: %w", err))
	}
	return err == nil && !open
}
