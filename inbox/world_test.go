package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
)

// each runs a behaviour on both drivers, at the same time as other behaviours.
func each(t *testing.T, behaviour func(w *world)) {
	t.Parallel()
	for _, d := range []driver{pgxDriver, sqlDriver} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			behaviour(newWorld(t, d))
		})
	}
}

// world is a consumer with its own schema. box is one process of it.
type world struct {
	*testing.T
	box
	driver driver
	url    string
	// eye looks at the tables beside the inbox.
	eye *pgxpool.Pool
	// changed says that the schema is no longer what migrations made.
	changed atomic.Bool
}

// free are schemas that a test before has used, and which are empty again: to make one takes far
// longer than most tests do.
var free = make(chan string, 100)

// takeSchema gives the world its own schema, for as long as the test runs.
func (w *world) takeSchema() {
	select {
	case w.url = <-free:
	default:
		w.url = exampledb.URL()
	}
	w.Cleanup(func() {
		if w.changed.Load() || w.Failed() {
			return
		}
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, w.url)
		if err == nil {
			_, err = conn.Exec(ctx, `DELETE FROM inbox_parked; DELETE FROM inbox_parked_keys; DELETE FROM inbox; DELETE FROM inbox_started;
				DELETE FROM inbox_claims; DELETE FROM inbox_sessions; DELETE FROM inbox_audit; DELETE FROM inbox_incarnation;
				DELETE FROM inbox_retentions; DELETE FROM inbox_consumers; DELETE FROM effects;
				UPDATE accounts SET balance = CASE id WHEN 'alice' THEN 100 ELSE 0 END`, pgx.QueryExecModeSimpleProtocol)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			w.Error(err)
			return
		}
		free <- w.url
	})
}

var changesSchema = regexp.MustCompile(`CREATE|ALTER|DROP|inbox_add_weeks`)

func newWorld(t *testing.T, d driver) *world {
	t.Helper()
	w := &world{T: t, driver: d}
	w.takeSchema()
	settings, err := pgxpool.ParseConfig(w.url)
	if err != nil {
		t.Fatal(err)
	}
	settings.MaxConns = 2
	if w.eye, err = pgxpool.NewWithConfig(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.eye.Close)
	w.box = w.process(nil)
	return w
}

// with returns the connection string with one more setting.
func (w *world) with(name, value string) string {
	u, err := url.Parse(w.url)
	if err != nil {
		w.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // pgx reads a plus as itself
	return u.String()
}

// process opens another process of the consumer; its sessions are told by the name of its instance.
func (w *world) process(change func(*inbox.Config)) box {
	w.Helper()
	return w.processAt(w.url, 4, change)
}

func (w *world) processAt(url string, connections int, change func(*inbox.Config)) box {
	w.Helper()
	config := &inbox.Config{Consumer: "billing", HandlerTimeout: patience}
	if change != nil {
		change(config)
	}
	return w.driver.open(w.T, url, connections, config)
}

// quick ends handlers soon, but not those that do their work on a busy machine.
func quick(c *inbox.Config) { c.HandlerTimeout = 500 * time.Millisecond }

// message is one of key k of topic orders.
func message(id, key string) inbox.Message {
	return inbox.Message{ID: id, Source: "shop", Topic: "orders", Key: []byte(key), Partition: 3, Offset: 7, Type: "Placed", Payload: []byte("{}")}
}

// effect is a handler that writes a row.
func effect(msg string) handler {
	return func(ctx context.Context, tx transaction) error { return write(ctx, tx, msg) }
}

func write(ctx context.Context, tx transaction, msg string) error {
	return tx.exec(ctx, "INSERT INTO effects (msg) VALUES ($1)", msg)
}

// effects is a handler of batches that writes a row a message.
func effects(ctx context.Context, tx transaction, messages []inbox.Message) error {
	for _, m := range messages {
		if err := write(ctx, tx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// retried is a handler of parked messages that writes a row.
func retried(ctx context.Context, tx transaction, m inbox.Message) error {
	return write(ctx, tx, m.ID)
}

func never(context.Context, transaction) error { return errors.New("this handler must not run") }

// want handles the message and fails the test unless the result is that, without an error.
func (w *world) want(result inbox.Result, b box, m inbox.Message, h handler) {
	w.Helper()
	got, err := b.Handle(w.Context(), m, h)
	if got != result || err != nil {
		w.Fatalf("message %s: result %v, error %v; want result %v", m.ID, got, err, result)
	}
}

// wantEffects compares the effects, in the order in which they were written.
func (w *world) wantEffects(want ...string) {
	w.Helper()
	w.wantRows("SELECT msg FROM effects ORDER BY id", want...)
}

// wantQueue compares what is parked: ids in their order, all keys.
func (w *world) wantQueue(want ...string) {
	w.Helper()
	w.wantRows("SELECT msg_id || ' ' || cause FROM inbox_parked ORDER BY id", want...)
}

func (w *world) wantRows(query string, want ...string) {
	w.Helper()
	if got := w.rows(query); !slices.Equal(got, want) {
		w.Fatalf("%s gave %q, want %q", query, got, want)
	}
}

func (w *world) rows(query string, args ...any) []string {
	w.Helper()
	rows, err := w.eye.Query(w.Context(), query, args...)
	if err != nil {
		w.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatalf("%s: %v", query, err)
	}
	return all
}

// wantEmpty fails the test unless the inbox holds no trace of any message.
func (w *world) wantEmpty() {
	w.Helper()
	for _, table := range []string{"inbox", "inbox_parked", "inbox_parked_keys", "inbox_started", "inbox_claims", "effects"} {
		if n := w.count(table); n != 0 {
			w.Fatalf("%s holds %d rows", table, n)
		}
	}
}

func (w *world) count(from string) (n int) {
	w.Helper()
	if err := w.eye.QueryRow(w.Context(), "SELECT count(*) FROM "+from).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// do runs a script beside the inbox.
func (w *world) do(script string, args ...any) {
	w.Helper()
	if changesSchema.MatchString(script) {
		w.changed.Store(true)
	}
	if _, err := w.eye.Exec(w.Context(), script, args...); err != nil {
		w.Fatalf("%s: %v", script, err)
	}
}

// until asks again and again, until it is so.
func (w *world) until(what string, so func() bool) {
	w.Helper()
	const look = 3 * time.Millisecond
	deadline, again := time.NewTimer(patience), time.NewTicker(look)
	defer deadline.Stop()
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-deadline.C:
			w.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// untilWaiting returns once so many sessions wait for locks that others of this schema hold.
func (w *world) untilWaiting(sessions int) {
	w.Helper()
	schema := w.rows("SELECT current_schema::text")[0]
	w.until(fmt.Sprintf("%d sessions wait for a lock", sessions), func() bool {
		return w.rows(`SELECT count(DISTINCT waiting.pid)::text FROM pg_locks waiting
			JOIN pg_stat_activity a ON a.pid = waiting.pid
			WHERE NOT waiting.granted AND EXISTS (
				SELECT FROM pg_locks held JOIN pg_class c ON c.oid = held.relation JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE held.pid = waiting.pid AND held.granted AND n.nspname = $1)
			AND a.datname = current_database()`, schema)[0] == fmt.Sprint(sessions)
	})
}

// outcome is what a call returned.
type outcome struct {
	result inbox.Result
	err    error
}

// background runs a call beside the test.
func background[R any](work func() R) <-chan R {
	done := make(chan R, 1)
	go func() { done <- work() }()
	return done
}

// handling handles the message beside the test.
func (w *world) handling(b box, m inbox.Message, h handler) <-chan outcome {
	return background(func() outcome {
		result, err := b.Handle(w.Context(), m, h)
		return outcome{result, err}
	})
}

// soon returns what comes, which must come.
func soon[R any](w *world, c <-chan R) R {
	w.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-c:
		return r
	case <-timer.C:
		w.Fatalf("nothing came in %v", patience)
		panic("not reached")
	}
}

// park parks a message as its consumer would.
func (w *world) park(m inbox.Message) {
	w.Helper()
	result, err := w.Park(w.Context(), m, inbox.CauseAttempts, 5, errors.New("no such account"))
	if result != inbox.Parked || err != nil {
		w.Fatalf("Park gave %v, %v", result, err)
	}
}

// request asks for a retry of every parked key, and returns the only one.
func (w *world) request() inboxloop.ParkedKey {
	w.Helper()
	w.do("UPDATE inbox_parked_keys SET requested_at = clock_timestamp(), requested_by = 'ops', reason = 'mended'")
	keys, err := w.Requested(w.Context(), 10)
	if err != nil || len(keys) != 1 {
		w.Fatalf("Requested gave %v, %v; want one key", keys, err)
	}
	return keys[0]
}

// results are the results of a batch in short.
func results(outcomes []inbox.Outcome) string {
	var all []string
	for _, o := range outcomes {
		all = append(all, o.Result.String())
	}
	return strings.Join(all, " ")
}

func equal(w *world, what string, got, want any) {
	w.Helper()
	if !reflect.DeepEqual(got, want) {
		w.Fatalf("%s: got %#v, want %#v", what, got, want)
	}
}
