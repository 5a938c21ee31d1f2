package bench

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/hint"
)

func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{}) }

func execute(t *testing.T, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), statement)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func schemas(t *testing.T) (names string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(nspname, ' '), '') FROM pg_namespace WHERE nspname ~ '^relay_bench'").Scan(&names)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFilledRowsAndRecordsHoldTheSamePayloads(t *testing.T) {
	s, err := openSite(t.Context(), testpg.URL(t), time.Minute, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left := schemas(t); left != "" {
			t.Errorf("schemas %s are left", left)
		}
	}()
	for _, size := range []int{8, 40, 41, 200, 1032, 1033, 5000} {
		p, err := s.newPlace(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (load.Backlog{Rows: 20, Size: size}).Insert(t.Context(), p.conn); err != nil {
			t.Fatal(err)
		}
		made := records(20, size, 5)
		rows, err := p.conn.Query(t.Context(), "SELECT aggregate_id, payload FROM outbox ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		var key string
		var value []byte
		_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
			if size <= 8+32*load.Hashes && !bytes.Equal(value, made[i].Value) || len(value) != size || len(made[i].Value) != size || key != string(made[i].Key) {
				t.Errorf("row %d of %d bytes: %s %x, and the record is %s %x", i, size, key, value, made[i].Key, made[i].Value)
			}
			i++
			return nil
		})
		if err != nil || i != 20 {
			t.Fatalf("%d rows, %v", i, err)
		}
	}
}

func TestInsertComparesTheThreeForms(t *testing.T) {
	r, err := RunInsert(t.Context(), InsertConfig{DatabaseURL: testpg.URL(t), Writers: []int{1, 3}, Rounds: 1, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Lines) != 2 || r.Lines[1].Writers != 3 || r.SynchronousCommit != "on" || r.RowBytes < 200+60 {
		t.Errorf("result %+v", r)
	}
	for _, l := range r.Lines {
		if l.None <= 0 || l.Plain <= 0 || l.Event <= 0 || l.ToPlain <= 0 || l.ToNone <= 0 {
			t.Errorf("line %+v", l)
		}
	}
	if left := schemas(t); left != "" {
		t.Errorf("schemas %s are left", left)
	}
}

func TestARoleThatMayNotCreateSchemasIsRefused(t *testing.T) {
	execute(t, "CREATE ROLE reader LOGIN PASSWORD 'hunter2'")
	address, err := url.Parse(testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("reader", "hunter2")
	_, err = RunInsert(t.Context(), InsertConfig{DatabaseURL: address.String()})
	if err == nil || !strings.Contains(err.Error(), "role reader may not create a schema") {
		t.Errorf("got %v", err)
	}
	if hints := hint.Of(err); len(hints) != 1 || !strings.Contains(hints[0], `GRANT CREATE ON DATABASE "postgres" TO "reader"`) {
		t.Errorf("hints %q", hints)
	}
}

func TestEveryFaultOfAConfigIsNamed(t *testing.T) {
	err := Config{Rows: -1, Size: 1, Batch: -1, Rounds: -1, Partitions: -1, Rates: []int{0, 5}, Retained: -1,
		Duration: time.Millisecond, Idle: time.Millisecond, Compression: "rar"}.WithDefaults().Validate()
	for _, name := range []string{"rows", "size", "batch", "rounds", "partitions", "rate", "retained", "seconds", "idle", "compression", "relay"} {
		if err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named by: %v", name, err)
		}
	}
	if err := (Config{Relay: []string{"relay"}}).WithDefaults().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err = InsertConfig{Writers: []int{0}, Size: 1, Rounds: -1, Duration: 1}.WithDefaults().Validate()
	for _, name := range []string{"writers", "size", "rounds", "seconds"} {
		if err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named by: %v", name, err)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{0: nil, 3: {3}, 2.5: {4, 1, 2, 3}, 5: {9, 5, 1}} {
		if got := median(values); got != want {
			t.Errorf("median of %v is %v, want %v", values, got, want)
		}
	}
}

func TestTheTextSaysWhatTheSystemDoesNotTell(t *testing.T) {
	r := Result{Rows: 1_000_000, Size: 200, Batch: 5000, Rounds: make([]Round, 3), RelayRowsPerSecond: 250_000,
		Rates: []Rate{{Rate: 5000, Achieved: 3000, Latency: Latency{P50: 1, P99: 2, Max: 3}}}, Idle: &Idle{QueriesPerSecond: 21}}
	text := r.Text()
	for _, want := range []string{"1,000,000 rows of 200 bytes", "250,000 rows/s", "peak memory unknown", "(only 3,000/s were reached)", "Idle: unknown, 21.0 queries/s"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
