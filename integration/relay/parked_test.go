package relay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
)

// The bad rows of TestParkedAggregatesAreRetriedAndDiscardedWhileTheRelayIsKilled: rows larger than
// the topic takes, in three of the accounts.
const (
	parkedAccounts = 50
	smallBatches   = "2000" // max.message.bytes
	tooManyBytes   = 4000
)

// parkedLoad writes accounts in rounds, in order, with a ledger as a workload has it.
type parkedLoad struct {
	t        testing.TB
	conn     *pgx.Conn
	versions [parkedAccounts + 1]int64
}

// put writes one event of an account. A payload with leading zeros is the same number in more
// bytes.
func (l *parkedLoad) put(account, size int) {
	l.t.Helper()
	l.versions[account]++
	version := l.versions[account]
	_, err := l.conn.Exec(l.t.Context(), `
WITH event AS (
    INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
    VALUES ('account', $1::int::text, 'Changed', convert_to(lpad($2::bigint::text, greatest($3::int, length($2::bigint::text)), '0'), 'UTF8'))
    RETURNING msg_id
)
INSERT INTO ledger SELECT msg_id, $1::int::text, $2::bigint FROM event`, account, version, size)
	if err != nil {
		l.t.Fatal(err)
	}
}

// round writes one event of every account.
func (l *parkedLoad) round() {
	for account := 1; account <= parkedAccounts; account++ {
		l.put(account, 0)
	}
}

// never writes an event that will be discarded: it is not in the ledger.
func (l *parkedLoad) never(account int) (msgID string) {
	l.t.Helper()
	err := l.conn.QueryRow(l.t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		VALUES ('account', $1::int::text, 'Changed', convert_to(repeat('x', $2), 'UTF8')) RETURNING msg_id::text`, account, tooManyBytes).Scan(&msgID)
	if err != nil {
		l.t.Fatal(err)
	}
	return msgID
}

// operate runs relay parked to its end, and returns its exit status and what it printed.
func operate(t testing.TB, url string, arguments ...string) (status int, stdout, stderr string) {
	t.Helper()
	r := kit.StartRelay(t, []string{"RELAY_DATABASE_URL=" + url}, append([]string{"parked"}, arguments...)...)
	status = r.Wait(time.Minute)
	return status, string(r.Stdout()), string(r.Stderr())
}

// operateJSON runs it with --output json.
func operateJSON[T any](t testing.TB, wantStatus int, url string, arguments ...string) (answer T) {
	t.Helper()
	status, stdout, stderr := operate(t, url, append(arguments, "--output", "json")...)
	if status != wantStatus {
		t.Fatalf("relay parked %q: exit status %d, want %d\n%s%s", arguments, status, wantStatus, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		t.Fatalf("relay parked %q: %v\n%s", arguments, err, stdout)
	}
	return answer
}

type parkedList struct {
	Aggregates []struct {
		AggregateID string `json:"aggregate_id"`
		MsgID       string `json:"msg_id"`
		Rows, ID    int
		Cause       string
		Error       string
		Attempts    int
	}
	TotalAggregates int `json:"total_aggregates"`
	TotalRows       int `json:"total_rows"`
}

type parkedAsked struct {
	Requests []struct {
		AggregateID string `json:"aggregate_id"`
		Outcome     string
		Events      int
		Done        bool
	}
	Open         int
	RefusedAgain int `json:"refused_again"`
}

// smallTopic makes a topic that takes small batches only.
func smallTopic(t testing.TB, admin *kadm.Client, name string) {
	t.Helper()
	limit := smallBatches
	if _, err := admin.CreateTopic(t.Context(), 6, -1, map[string]*string{"max.message.bytes": &limit}, name); err != nil {
		t.Fatal(err)
	}
}

// Three rows of three aggregates are larger than their topic takes. They and what comes behind them
// are parked and all else goes out; a retry is refused again as long as the cause is there; then
// one is discarded, and the others are retried by the command while the relay is killed twice in
// the middle of it.
func TestParkedAggregatesAreRetriedAndDiscardedWhileTheRelayIsKilled(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	admin := kadm.NewClient(kit.KafkaClient(t, kit.Brokers(t)))
	smallTopic(t, admin, topic)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200")
	kit.Execute(t, url, kit.WorkloadTables)
	load := &parkedLoad{t: t, conn: kit.Connect(t, url)}

	load.round()
	load.put(7, tooManyBytes)
	load.put(23, tooManyBytes)
	never := load.never(42)
	load.round()
	first := kit.StartRelay(t, settings, "run")
	load.round()
	var list parkedList
	kit.Eventually(t, time.Minute, "three aggregates are parked, with all their rows", func() bool {
		list = operateJSON[parkedList](t, 0, url, "list", "--error", "message.bytes")
		return list.TotalAggregates == 3 && list.TotalRows == 3*3
	})
	for _, a := range list.Aggregates {
		if !strings.Contains("7 23 42", a.AggregateID) || a.Cause != "refused" || a.Rows != 3 || a.Attempts != 1 ||
			a.AggregateID == "42" && a.MsgID != never {
			t.Errorf("parked is %+v", a)
		}
	}
	showParked(t, url, never)
	awaitRest(t, url)

	again := operateJSON[parkedAsked](t, 1, url, "retry", "--aggregate", "account/7", "--why", "too early")
	if again.RefusedAgain != 1 || len(again.Requests) != 1 || again.Requests[0].Events != 0 {
		t.Errorf("a retry of what is still too large: %+v", again)
	}
	if list := operateJSON[parkedList](t, 0, url, "list", "--aggregate", "account/7"); list.Aggregates[0].Attempts != 2 {
		t.Errorf("after one more attempt: %+v", list)
	}
	gone := operateJSON[parkedAsked](t, 0, url, "discard", "--msg-id", never, "--why", "test data", "--yes")
	if gone.Open != 0 || len(gone.Requests) != 1 || gone.Requests[0].Outcome != "discarded" || gone.Requests[0].Events != 1 {
		t.Errorf("the discard: %+v", gone)
	}
	kit.Eventually(t, 20*time.Second, "those behind it are published", func() bool {
		return operateJSON[parkedList](t, 0, url, "list").TotalAggregates == 2
	})
	first.Terminate()
	if status := first.Wait(30 * time.Second); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}

	enough := "1000000"
	responses, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &enough}}, topic)
	if err != nil || responses[0].Err != nil {
		t.Fatal(err, responses)
	}
	retryWhileKilled(t, url, settings, load)

	v := kit.Judge((&kit.Workload{URL: url}).Ledger(t), kit.Everything(t, kit.Brokers(t), topic))
	v.Require(t)
	if want := 5*parkedAccounts + 2; v.Written != want {
		t.Errorf("%d events were committed, want %d", v.Written, want)
	}
}

// showParked looks at one aggregate, as text and its payload.
func showParked(t testing.TB, url, never string) {
	t.Helper()
	status, text, _ := operate(t, url, "show", "--aggregate", "account/42")
	if status != 0 || !strings.Contains(text, never) || !strings.Contains(text, "3 events parked") || strings.Contains(text, "xxx") {
		t.Errorf("exit status %d\n%s", status, text)
	}
	t.Log("relay parked show:\n" + text)
	if status, payload, _ := operate(t, url, "show", "--aggregate", "account/42", "--payload"); status != 0 || payload != strings.Repeat("x", tooManyBytes) {
		t.Errorf("exit status %d, a payload of %d bytes", status, len(payload))
	}
	if status, text, _ := operate(t, url, "discard", "--all", "--dry-run"); status != 0 || !strings.Contains(text, "would discard 3 aggregates with 9 events") {
		t.Errorf("exit status %d\n%s", status, text)
	}
}

// awaitRest waits until all but the parked aggregates are published.
func awaitRest(t testing.TB, url string) { kit.AwaitPublished(t, &kit.Workload{URL: url}) }

// retryWhileKilled retries all that is parked with one command, while one relay after the other is
// killed at a step of the batch that carries it out.
func retryWhileKilled(t testing.TB, url string, settings []string, load *parkedLoad) {
	t.Helper()
	retry := kit.StartRelay(t, []string{"RELAY_DATABASE_URL=" + url}, "parked", "retry", "--all", "--why", "the limit was raised", "--wait", "60s",
		"--output", "json")
	kit.Eventually(t, 20*time.Second, "the retry is asked for", func() bool { return count(t, url, openRequests) == 2 })
	for kill, step := range []string{"after-intent", "before-end", "after-end"} {
		killed := kit.StartRelay(t, append(settings, fmt.Sprintf("RELAY_FAILPOINT=%s:1", step)), "run")
		if status := killed.Wait(time.Minute); status != -1 {
			t.Fatalf("the relay ended with status %d before it was killed at %s", status, step)
		}
		// Nothing but the retry is there to be done at first, so the batch that was cut off is that
		// one.
		if leaving := count(t, url, `SELECT count(*) FROM outbox_parked WHERE released_seq IS NOT NULL`); kill < 2 && leaving != 2*3 {
			t.Errorf("killed at %s: %d parked rows were on their way out, want 6", step, leaving)
		}
		if kill > 0 {
			load.round() // arrives behind what is parked
		}
	}
	last := kit.StartRelay(t, settings, "run")
	if status := retry.Wait(time.Minute); status != 0 {
		t.Errorf("the retry ended with status %d", status)
	}
	t.Logf("relay parked retry:\n%s%s", retry.Stdout(), retry.Stderr())
	var asked parkedAsked
	if err := json.Unmarshal(retry.Stdout(), &asked); err != nil {
		t.Fatal(err)
	}
	for _, r := range asked.Requests {
		if r.Outcome != "published" || !r.Done || r.Events < 3 {
			t.Errorf("%+v", r)
		}
	}
	if len(asked.Requests) != 2 {
		t.Errorf("%d requests", len(asked.Requests))
	}
	kit.Eventually(t, 20*time.Second, "nothing is parked any more", func() bool {
		return operateJSON[parkedList](t, 0, url, "list").TotalAggregates == 0
	})
	awaitRest(t, url)
	last.Terminate()
	if status := last.Wait(30 * time.Second); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}
}

const openRequests = `SELECT count(*) FROM outbox_parked_audit WHERE done_seq IS NULL`
