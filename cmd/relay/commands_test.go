package main

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
)

// database makes an empty database and returns the environment that names it and the broker.
func database(t *testing.T) (databaseURL string, env []string) {
	t.Helper()
	databaseURL = testpg.Database(t)
	return databaseURL, []string{
		"RELAY_DATABASE_URL=" + databaseURL,
		"RELAY_BROKERS=" + strings.Join(broker.Addresses, ","),
		"RELAY_ADMIN=127.0.0.1:0",
		"RELAY_SESSION_TIMEOUT=2s",
	}
}

// must runs a command that has to succeed and returns its output.
func must(t *testing.T, env []string, args ...string) string {
	t.Helper()
	status, out, errs := run(t, env, args...)
	if status != exitOK {
		t.Fatalf("relay %s: exit status %d\n%s", strings.Join(args, " "), status, errs)
	}
	return out
}

func execute(t *testing.T, databaseURL, query string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := conn.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestMigrateThereAndBack(t *testing.T) {
	databaseURL, env := database(t)
	plan := must(t, env, "migrate", "up", "--dry-run")
	if printed := must(t, nil, "migrate", "print"); plan != printed || !strings.Contains(plan, "CREATE TABLE outbox") {
		t.Errorf("the dry run on an empty database differs from print:\n%s", plan)
	}
	if out := must(t, env, "migrate", "status"); strings.Contains(out, "applied") {
		t.Errorf("the dry run applied something:\n%s", out)
	}
	must(t, env, "migrate", "up")
	if out := must(t, env, "migrate", "up"); !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("got %s", out)
	}
	if out := must(t, env, "migrate", "up", "--dry-run"); out != "-- nothing to do\n" {
		t.Errorf("got %s", out)
	}
	var status struct {
		Schema     string
		Migrations []struct{ Applied bool }
	}
	if err := json.Unmarshal([]byte(must(t, env, "migrate", "status", "--output", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Schema != "public" || len(status.Migrations) == 0 || !status.Migrations[0].Applied {
		t.Errorf("got %+v", status)
	}

	execute(t, databaseURL, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')")
	code, _, errs := run(t, env, "migrate", "down", "--all")
	if code != exitFailure || !strings.Contains(errs, "1 row of outbox") || !strings.Contains(errs, "Try: ") {
		t.Errorf("exit status %d: %s", code, errs)
	}
	if out := must(t, env, "migrate", "down", "--all", "--dry-run"); !strings.Contains(out, "DROP TABLE outbox") {
		t.Errorf("got %s", out)
	}
	if out := must(t, env, "migrate", "down", "--all", "--yes"); !strings.Contains(out, "removed 0001_outbox") {
		t.Errorf("got %s", out)
	}
	if out := must(t, env, "migrate", "down", "--all"); !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("got %s", out)
	}
}

func TestMigrateWarnsOfASchemaInWhichOthersMayCreate(t *testing.T) {
	databaseURL, env := database(t)
	execute(t, databaseURL, "CREATE SCHEMA shared; GRANT CREATE ON SCHEMA shared TO PUBLIC; CREATE SCHEMA own")
	for _, command := range [][]string{{"migrate", "up"}, {"inbox", "migrate", "up"}} {
		status, _, errs := run(t, env, append(command, "--schema", "shared")...)
		if status != 0 || !strings.Contains(errs, `Try: REVOKE CREATE ON SCHEMA "shared" FROM PUBLIC;`) {
			t.Errorf("%v: exit status %d, %s", command, status, errs)
		}
		if status, _, errs := run(t, env, append(command, "--schema", "own")...); status != 0 || errs != "" {
			t.Errorf("%v in a schema of the owner: exit status %d, %s", command, status, errs)
		}
	}
}

// TestThePrintedSQLRuns feeds what print says to Postgres, there and back.
func TestThePrintedSQLRuns(t *testing.T) {
	databaseURL, _ := database(t)
	execute(t, databaseURL, must(t, nil, "migrate", "print"))
	execute(t, databaseURL, must(t, nil, "migrate", "print", "--down"))
}

func TestASchemaOfItsOwn(t *testing.T) {
	databaseURL, env := database(t)
	execute(t, databaseURL, "CREATE SCHEMA billing")
	must(t, env, "migrate", "up", "--schema", "billing")
	must(t, env, "status", "--schema", "billing")
	status, _, errs := run(t, env, "status")
	if status != exitFailure || !strings.Contains(errs, "relay migrate up") {
		t.Errorf("without the schema: exit status %d, %s", status, errs)
	}
}

func TestStatusAsTextAndAsJSON(t *testing.T) {
	databaseURL, env := database(t)
	must(t, env, "migrate", "up")
	execute(t, databaseURL, `INSERT INTO relay_lanes (lane, seq, owner_epoch, owner, state, reason, snapshot_from, updated_at)
		VALUES ('outbox', 42, 3, 'host/1/ab', 'halted', 'the checkpoint topic is gone', pg_current_snapshot(), '2026-01-02 03:04:05Z'),
		('billing', 0, 0, NULL, 'new', NULL, NULL, '2026-01-02 03:04:05Z')`)
	execute(t, databaseURL, `INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at)
		VALUES ('order', '1', 'x', now() + interval '1 h')`) // from a clock that is ahead, so that no second passes
	execute(t, databaseURL, `INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, created_at, seq, cause, parked_at)
		SELECT 'outbox', id, gen_random_uuid(), 'order', '1', 'x', now(), 1, 'refused', '2026-01-02 03:04:05Z' FROM generate_series(1, 3) AS id`)
	golden(t, "status-text", must(t, env, "status"))
	golden(t, "status-json", localTime.ReplaceAllString(must(t, env, "status", "--output", "json"), `"$1": "TIME"`))
}

// localTime is a time in the zone of the person who runs the tests.
var localTime = regexp.MustCompile(`"(updated_at|parked_since)": "[^"]+"`)

func TestRunRefusesToStartWhereItCannotWork(t *testing.T) {
	empty, _ := database(t)
	databaseURL, env := database(t)
	must(t, env, "migrate", "up")
	wrong := strings.Replace(databaseURL, "//postgres:", "//postgres:hunter2", 1)
	tests := map[string]struct {
		args []string
		want string
	}{
		"missing tables": {[]string{"--database-url", empty}, "Try: relay migrate up"},
		"wrong password": {[]string{"--database-url", wrong}, "Try: check user and password"},
		"no broker": {[]string{"--brokers", "127.0.0.1:1", "--start-timeout", "100ms"},
			"Error: no Kafka broker answers at 127.0.0.1:1 within 100ms"},
		"no Postgres": {[]string{"--database-url", "host=127.0.0.1 port=1 password=hunter2", "--start-timeout", "100ms"},
			"Error: cannot connect to Postgres at 127.0.0.1:1 within 100ms"},
		"admin address of another machine": {[]string{"--admin", "192.0.2.1:80"}, "--admin off"},
	}
	for name, test := range tests {
		status, out, errs := run(t, env, append([]string{"run"}, test.args...)...)
		if status != exitFailure || out != "" || !strings.Contains(errs, test.want) || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: exit status %d\n%s%s", name, status, out, errs)
		}
	}
}

// start calls relay run in the background and waits until it has taken its lane over.
func start(t *testing.T, env []string, args ...string) (*call, <-chan int) {
	t.Helper()
	c := prepare(env, append([]string{"run"}, args...)...)
	done := make(chan int, 1)
	running := c.err.await("lane taken over")
	go func() { done <- c.main(t.Context()) }()
	select {
	case <-running:
	case status := <-done:
		t.Fatalf("relay run ended with %d\n%s", status, c.err)
	}
	return c, done
}

func TestRunPublishesServesAndDrains(t *testing.T) {
	databaseURL, env := database(t)
	must(t, env, "migrate", "up")
	execute(t, databaseURL, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')")
	c, done := start(t, env, "--topics-create", "--log-format", "json")

	address := regexp.MustCompile(`"admin":"([^"]+)"`).FindStringSubmatch(c.err.String())
	if address == nil {
		t.Fatalf("no address in the log:\n%s", c.err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, page := range []string{"/livez", "/metrics", "/"} {
		answer, err := client.Get("http://" + address[1] + page)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s (%v)", page, answer.Status, err)
		}
	}
	c.signals <- syscall.SIGTERM
	if status := <-done; status != exitOK {
		t.Errorf("exit status %d\n%s", status, c.err)
	}
	for _, line := range []string{"draining", "relay stopped"} {
		if !strings.Contains(c.err.String(), line) {
			t.Errorf("the log does not say %q:\n%s", line, c.err)
		}
	}
}

func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	for second, want := range map[os.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		c := prepare(nil)
		ctx, stop := c.untilSignal(t.Context())
		c.signals <- syscall.SIGTERM
		<-ctx.Done()
		c.signals <- second
		if got := <-c.exits; got != want {
			t.Errorf("%v: exit status %d, want %d", second, got, want)
		}
		stop()
	}
}

func TestASignalDuringTheStartIsNoError(t *testing.T) {
	_, env := database(t)
	must(t, env, "migrate", "up")
	c := prepare(env, "run", "--brokers", "127.0.0.1:1", "--start-timeout", "1h")
	waiting := c.err.await("waiting for Kafka")
	done := make(chan int, 1)
	go func() { done <- c.main(t.Context()) }()
	<-waiting
	c.signals <- syscall.SIGTERM
	if status := <-done; status != exitOK {
		t.Errorf("exit status %d\n%s", status, c.err)
	}
}

func TestASignalCutsAWaitingCommandShort(t *testing.T) {
	c := prepare(nil, "status", "--database-url", "host=127.0.0.1 port=1", "--start-timeout", "1h")
	c.signals <- syscall.SIGINT
	if status := c.main(t.Context()); status != 130 {
		t.Errorf("exit status %d\n%s", status, c.err)
	}
}
