package kit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEveryTestHasADatabaseOfItsOwnWithTheOutbox(t *testing.T) {
	first, second := Connect(t, Database(t)), Connect(t, Database(t))
	if _, err := first.Exec(t.Context(),
		"INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', '1', 'OrderPlaced', '{}')"); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := second.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != 0 {
		t.Fatalf("%d rows of another test", rows)
	}
	if _, err := first.Exec(t.Context(), "BEGIN; SELECT 1; PREPARE TRANSACTION 'p'"); err != nil {
		t.Fatalf("prepared transactions are off: %v", err)
	}
	if _, err := first.Exec(t.Context(), "ROLLBACK PREPARED 'p'"); err != nil {
		t.Fatal(err)
	}
}

func TestADatabaseIsDroppedWithItsTest(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) { url = Database(t) })
	_, err := pgconn.Connect(t.Context(), url)
	var refused *pgconn.PgError
	const noSuchDatabase = "3D000"
	if !errors.As(err, &refused) || refused.Code != noSuchDatabase {
		t.Fatalf("connect after the test: %v, want SQLSTATE %s", err, noSuchDatabase)
	}
}

func TestReadCommittedSeesCommittedRecordsOnly(t *testing.T) {
	name := Topic(t, 3)
	producer := KafkaClient(t, Brokers(t), kgo.TransactionalID(UniqueName(t)))
	const batches = 6
	var want []string
	for batch := range batches {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := fmt.Sprintf("batch %d", batch)
		record := &kgo.Record{Topic: name, Key: []byte("one key"), Value: []byte(value)}
		if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
		end := kgo.TryAbort
		if batch%2 == 1 {
			end = kgo.TryCommit
			want = append(want, value)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, record := range Consume(t, Brokers(t), len(want), 30*time.Second, name) {
		got = append(got, string(record.Value))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Fatalf("read %q, want %q", got, want)
	}
}

func TestKafkaHasTransactionVersion2(t *testing.T) {
	kafka := OneBroker(t)
	output, err := kafka.Tool(t.Context(), "org.apache.kafka.tools.FeatureCommand",
		"--bootstrap-server", kafka.BootstrapServers(), "describe")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, "transaction.version") && strings.Contains(line, "FinalizedVersionLevel: 2") {
			return
		}
	}
	t.Fatalf("transaction.version is not finalized at 2:\n%s", output)
}

func TestARelayProcessIsStartedPausedAndEnded(t *testing.T) {
	version := StartRelay(t, nil, "version")
	if status := version.Wait(30 * time.Second); status != 0 {
		t.Fatalf("relay version ended with status %d", status)
	}
	if len(version.Stdout()) == 0 {
		t.Fatal("relay version wrote nothing")
	}
}
