package preflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/sandbox"
)

var broker *sandbox.Broker

func TestMain(m *testing.M) {
	var err error
	if broker, err = sandbox.StartBroker(context.Background(), sandbox.BrokerOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testpg.Main(m, testpg.Options{Stop: func() error { broker.Stop(); return nil }})
}

// fit returns a Config that Check is content with.
func fit(t *testing.T) Config {
	t.Helper()
	return Config{
		DatabaseURL: testpg.URL(t),
		Tables:      []string{"pg_class"},
		Brokers:     broker.Addresses,
		Timeout:     20 * time.Second,
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// closedPort returns an address without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// silentPort returns an address that accepts connections and never answers.
func silentPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func TestServersThatAreFitPass(t *testing.T) {
	if err := Check(t.Context(), fit(t)); err != nil {
		t.Error(err)
	}
}

// Roles belong to the whole server, and one that is dropped elsewhere is no reason not to start.
func TestRolesThatAreDroppedMeanwhileDoNotMatter(t *testing.T) {
	conn := admin(t, `CREATE TABLE watched (id bigint, xact_id xid8, created_at timestamptz)`)
	stop, stopped := make(chan struct{}), make(chan struct{})
	other := testpg.Connect(t, testpg.URL(t))
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.Exec(context.Background(), `DO $$ BEGIN
				FOR n IN 1..50 LOOP EXECUTE format('CREATE ROLE fleeting_%s', n); END LOOP; END $$`); err != nil {
				t.Error(err)
				return
			}
			if _, err := other.Exec(context.Background(), `DO $$ BEGIN
				FOR n IN 1..50 LOOP EXECUTE format('DROP ROLE fleeting_%s', n); END LOOP; END $$`); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 2000 {
		if _, err := TableWarnings(t.Context(), conn, "watched"); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
}

// What endangers the rows of an outbox is a matter for people, and no reason not to start.
func TestWhatEndangersAnOutboxIsLogged(t *testing.T) {
	admin(t, `CREATE TABLE careless (id bigint PRIMARY KEY, xact_id xid8, created_at timestamptz); GRANT INSERT ON careless TO PUBLIC`)
	var log bytes.Buffer
	cfg := fit(t)
	cfg.Outboxes, cfg.Logger = []string{"careless"}, slog.New(slog.NewTextHandler(&log, nil))
	if err := Check(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"level=WARN", "PUBLIC (created_at, id, xact_id)", "outbox_own_transaction", "GENERATED ALWAYS"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log.String())
		}
	}
}

func TestFaultsThatWaitingCannotMendEndTheCheckAtOnce(t *testing.T) {
	_, password, _ := strings.Cut(strings.TrimPrefix(testpg.URL(t), "postgres://"), ":")
	password, _, _ = strings.Cut(password, "@")
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"wrong password": {
			func(c *Config) { c.DatabaseURL = strings.Replace(c.DatabaseURL, password, "hunter2", 1) },
			`password authentication failed for user "postgres"`},
		"unknown role": {
			func(c *Config) {
				c.DatabaseURL = strings.Replace(c.DatabaseURL, "postgres:"+password, "nobody:hunter2", 1)
			},
			`"nobody"`},
		"unknown database": {
			func(c *Config) { c.DatabaseURL = strings.Replace(c.DatabaseURL, "/postgres?", "/absent?", 1) },
			`database "absent" does not exist`},
		"missing table": {
			func(c *Config) { c.Tables = []string{"outbox"} },
			`table outbox: Postgres says: relation "outbox" does not exist`},
		"missing schema": {
			func(c *Config) { c.Tables = []string{"billing.outbox"} },
			`table billing.outbox: `},
		"one table under two names": {
			func(c *Config) { c.Tables = []string{"pg_class", "pg_type", "pg_catalog.pg_class"} },
			"tables pg_class and pg_catalog.pg_class are one table"},
		"not a connection string": {
			func(c *Config) { c.DatabaseURL = "hunter2" },
			"database-url: "},
		"not a broker's address": {
			func(c *Config) { c.Brokers = []string{"kafka:port"} },
			"brokers: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := fit(t)
			// The other server never answers: the check must not wait for it. Far longer than the
			// test may take.
			cfg.Timeout = time.Hour
			if name == "not a broker's address" {
				cfg.DatabaseURL = "postgres://postgres@" + silentPort(t) + "/postgres?sslmode=disable"
			} else {
				cfg.Brokers = []string{closedPort(t)}
			}
			test.change(&cfg)
			err := Check(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, errForGood) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), password) {
				t.Errorf("the error shows a password: %v", err)
			}
			if name != "not a connection string" && len(hint.Of(err)) != 1 {
				t.Errorf("got the hints %q", hint.Of(err))
			}
		})
	}
}

// admin runs a statement as superuser on a connection that stays open until the test ends.
func admin(t *testing.T, script string) *pgx.Conn {
	t.Helper()
	conn := testpg.Connect(t, testpg.URL(t))
	testpg.Exec(t, conn, script)
	return conn
}

// A lock is not waited for without end: a migration that hangs must not make a start hang.
func TestATableThatIsLockedIsToldInTime(t *testing.T) {
	admin(t, `CREATE TABLE locked ()`)
	admin(t, `BEGIN; LOCK TABLE locked`)
	cfg := fit(t)
	cfg.Tables, cfg.Timeout = []string{"pg_class", "locked"}, 2*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := Check(ctx, cfg)
	if err == nil || !strings.Contains(err.Error(), "table locked: Postgres gave no answer within 2s") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
	if errors.Is(err, errForGood) {
		t.Errorf("waiting would help, and %v says otherwise", err)
	}
}

func TestADatabaseThatDoesNotFitIsRefused(t *testing.T) {
	admin(t, `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
	admin(t, `CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	admin(t, `CREATE ROLE seesless LOGIN PASSWORD 'secret'; CREATE TABLE veiled (n int); GRANT SELECT ON veiled TO seesless;
		ALTER TABLE veiled ENABLE ROW LEVEL SECURITY`)
	address, err := url.Parse(testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("seesless", "secret")
	for name, test := range map[string]struct {
		url    string
		tables []string
		want   string
	}{
		"LATIN1":    {strings.Replace(testpg.URL(t), "/postgres?", "/latin?", 1), []string{"pg_class"}, "encoding LATIN1"},
		"SQL_ASCII": {strings.Replace(testpg.URL(t), "/postgres?", "/ascii?", 1), []string{"pg_class"}, "encoding SQL_ASCII"},
		"policy":    {address.String(), []string{"pg_class", "veiled"}, `row-level security of "veiled" applies to the role seesless`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := fit(t)
			cfg.DatabaseURL, cfg.Tables = test.url, test.tables
			err := Check(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, errForGood) || len(hint.Of(err)) != 1 {
				t.Errorf("got %v with hints %q, want %q", err, hint.Of(err), test.want)
			}
		})
	}
}

func TestServersThatDoNotAnswerInTimeAreNamedAllAtOnce(t *testing.T) {
	for name, port := range map[string]func(*testing.T) string{"closed": closedPort, "silent": silentPort} {
		t.Run(name, func(t *testing.T) {
			cfg := fit(t)
			cfg.Timeout = 300 * time.Millisecond
			postgres, kafka := port(t), port(t)
			cfg.DatabaseURL = "postgres://relay:hunter2@" + postgres + "/app?sslmode=disable"
			cfg.Brokers = []string{kafka}
			err := Check(t.Context(), cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range []string{
				"cannot connect to Postgres at " + postgres + " within 300ms", "no Kafka broker answers at " + kafka + " within 300ms",
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") || len(hint.Of(err)) != 2 {
				t.Errorf("got %v with hints %q", err, hint.Of(err))
			}
		})
	}
}

// watcher is a log that tells when a text is written.
type watcher struct {
	mu   sync.Mutex
	text string
	seen chan struct{}
	log  bytes.Buffer
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.text) {
		close(w.seen) // a second time would panic: what is waited for is logged once
	}
	return w.log.Write(p)
}

func TestAServerThatComesUpInTimeIsWaitedFor(t *testing.T) {
	late, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := late.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := late.ShutDown(); err != nil {
		t.Fatal(err)
	}
	log := &watcher{text: "waiting for Postgres", seen: make(chan struct{})}
	cfg := fit(t)
	cfg.DatabaseURL, cfg.Timeout = late.URL, time.Minute
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	done := make(chan error, 1)
	go func() { done <- Check(t.Context(), cfg) }()
	<-log.seen
	if err := late.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestACancelledCheckReturnsTheContextsError(t *testing.T) {
	log := &watcher{text: "waiting for Kafka", seen: make(chan struct{})}
	cfg := fit(t)
	cfg.Brokers, cfg.Timeout = []string{closedPort(t)}, time.Hour
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Check(ctx, cfg) }()
	<-log.seen
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
