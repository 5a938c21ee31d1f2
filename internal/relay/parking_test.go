package relay

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// poison is the text in a payload that the broker of refusePoison does not take.
const poison = "poison"

// refusePoison makes the broker refuse each batch of one partition that has a poisoned record,
// whole, as brokers do. It returns how many it has refused.
func (r *rig) refusePoison(code *kerr.Error) func() int {
	refused := make(chan int, 1)
	refused <- 0
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		bad := false
		for _, topic := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = partition.Partition, kerr.UnknownServerError.Code
				if bytes.Contains(partition.Records, []byte(poison)) {
					bad, part.ErrorCode = true, code.Code
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		if bad {
			refused <- <-refused + 1
		}
		return response, nil, bad
	})
	return func() int { n := <-refused; refused <- n; return n }
}

// parkedRows are the payloads parked for each aggregate, in the order of its queue, with their
// causes.
func (r *rig) parkedRows() map[string][]string {
	r.t.Helper()
	rows, err := r.conn.Query(r.t.Context(), `SELECT aggregate_id, cause || ' ' || coalesce(convert_from(payload, 'UTF8'), '')
		FROM outbox_parked WHERE released_seq IS NULL ORDER BY seq, id`)
	if err != nil {
		r.t.Fatal(err)
	}
	parked := make(map[string][]string)
	var key, what string
	for rows.Next() {
		if err := rows.Scan(&key, &what); err != nil {
			r.t.Fatal(err)
		}
		parked[key] = append(parked[key], what)
	}
	if rows.Err() != nil {
		r.t.Fatal(rows.Err())
	}
	return parked
}

func (r *rig) expectParked(want map[string][]string) {
	r.t.Helper()
	if got := r.parkedRows(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("parked are %q, want %q", got, want)
	}
}

// ask asks for something to be done about a parked aggregate and waits until it is done; it returns
// what came of it.
func (r *rig) ask(action, key string, msgID *string) string {
	r.t.Helper()
	request := query[int64](r.t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, reason)
		VALUES ('outbox', $1, 'order', $2, $3, 'test') RETURNING request`, action, key, msgID)
	var outcome string
	until(r.t, func() bool {
		outcome = query[string](r.t, r.conn, `SELECT coalesce(min(outcome || ' ' || events), '') FROM outbox_parked_audit
			WHERE request = $1 AND done_at IS NOT NULL`, request)
		return outcome != ""
	})
	return outcome
}

func (r *rig) putEvent(key, value string) { r.t.Helper(); insert(r.t, r.conn, key, value) }

func TestARefusedRowParksItsAggregateAndNoOther(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.InvalidRecord, kerr.MessageTooLarge} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			refused := r.refusePoison(code)
			exec(t, r.conn, `BEGIN`)
			want := make(map[string][]string)
			for i := range 200 {
				key := fmt.Sprintf("k%d", i%20)
				value := fmt.Sprintf("v %d", i)
				if i == 65 || i == 107 { // of k5 and k7
					value = poison + strings.Repeat("!", 100)
				}
				r.putEvent(key, value)
				if !(key == "k5" && i >= 65 || key == "k7" && i >= 107) {
					want[key] = append(want[key], value)
				}
			}
			exec(t, r.conn, `COMMIT`)
			cfg := r.config()
			cfg.Compression = "none"
			s := r.start(cfg)
			r.putEvent("end", "end")
			r.awaitEnd(orders)
			r.putEvent("k5", "later")
			r.putEvent("end2", "end")
			s.await(t, "the last event", func(rec *recorder) bool { return rec.rows >= len(flat(want))+2 })
			s.stop()
			want["end"], want["end2"] = []string{"end"}, []string{"end"}
			r.expect(orders, want)
			parked := r.parkedRows()
			if len(parked) != 2 || len(parked["k5"]) != 8 || !strings.HasPrefix(parked["k5"][0], "refused "+poison) ||
				parked["k5"][7] != "behind later" || len(parked["k7"]) != 5 {
				t.Errorf("parked are %q", parked)
			}
			if len(s.takeovers) != 1 {
				t.Errorf("the lane was taken over %d times for two bad rows", len(s.takeovers))
			}
			t.Logf("the broker refused %d requests", refused())
		})
	}
}

func flat(m map[string][]string) []string {
	var all []string
	for _, values := range m {
		all = append(all, values...)
	}
	return all
}

func TestAParkedAggregateComesBackInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.putEvent("a", "1")
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', '2', '{"h": null}')`)
	r.putEvent("a", "3")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.BatchRows = 2
	s := r.start(cfg)
	s.awaitRows(t, 2)
	if got := r.ask("retry", "a", nil); !strings.HasPrefix(got, "refused again: headers") || !strings.HasSuffix(got, " 0") {
		t.Errorf("a retry of a row that is still bad: %q", got)
	}
	r.expectParked(map[string][]string{"a": {"refused 2", "behind 3"}})
	if attempts := query[int](t, r.conn, `SELECT max(attempts)::int FROM outbox_parked`); attempts != 2 {
		t.Errorf("%d attempts are recorded", attempts)
	}
	for i := 4; i < 20; i++ {
		r.putEvent("a", fmt.Sprint(i))
	}
	s.await(t, "all of a are parked", func(*recorder) bool { return len(r.parkedRows()["a"]) == 18 })
	exec(t, r.conn, `UPDATE outbox_parked SET headers = NULL WHERE cause = 'refused'`)
	if got := r.ask("retry", "a", nil); got != "published 18" {
		t.Errorf("the retry ended with %q after %d takeovers", got, len(s.takeovers))
	}
	r.putEvent("a", "20")
	s.awaitRows(t, 21)
	s.stop()
	var all []string
	for i := 1; i <= 20; i++ {
		all = append(all, fmt.Sprint(i))
	}
	r.expect(orders, map[string][]string{"a": all, "b": {"1"}})
	r.expectParked(nil)
}

func TestDiscardingTheBadRowFreesThoseBehindIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	msgID := query[string](t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, topic)
		VALUES ('order', 'a', 'T', 'bad', 'no topic!') RETURNING msg_id::text`)
	for _, v := range []string{"2", "3"} {
		r.putEvent("a", v)
	}
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', 'b', 'T', 'no topic!')`)
	r.putEvent("b", "2")
	r.putEvent("c", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	if got := r.ask("discard", "a", &msgID); got != "discarded 1" {
		t.Errorf("%q", got)
	}
	s.awaitRows(t, 3)
	if got := r.ask("discard", "b", nil); got != "discarded 2" {
		t.Errorf("%q", got)
	}
	r.putEvent("b", "3")
	s.awaitRows(t, 4)
	s.stop()
	r.expect(orders, map[string][]string{"a": {"2", "3"}, "b": {"3"}, "c": {"1"}})
	r.expectParked(nil)
}

func TestTheSkipPolicyLeavesOutTheRowAndSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.putEvent("a", "1")
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', 'a', 'T', 'no topic!')`)
	r.putEvent("a", "2")
	cfg := r.config()
	cfg.Poison = parking.Skip
	s := r.start(cfg)
	s.awaitRows(t, 2)
	s.stop()
	r.expect(orders, map[string][]string{"a": {"1", "2"}})
	if n := query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE action = 'skip' AND aggregate_id = 'a' AND events = 1
		AND outcome LIKE '%no topic!%' AND msg_id IS NOT NULL AND done_at IS NOT NULL`); n != 1 {
		t.Errorf("%d skipped rows are recorded", n)
	}
}

func TestAValidationHookRefusesForGood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.putEvent("a", "bad")
	r.putEvent("b", "good")
	cfg := r.config()
	cfg.Check = func(record *kgo.Record) error {
		if string(record.Value) == "bad" {
			return fmt.Errorf("the contract of %s says otherwise", record.Topic)
		}
		return nil
	}
	s := r.start(cfg)
	s.awaitRows(t, 1)
	s.stop()
	r.expect(orders, map[string][]string{"b": {"good"}})
	r.expectParked(map[string][]string{"a": {"refused bad"}})
}

// Whatever step a process ends at, what is parked is parked once and comes back once.
func TestParkingSurvivesAnEndAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, at := range pipeline.Steps() {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			want := make(map[string][]string)
			put := func(from, to int) {
				for i := from; i < to; i++ {
					key := fmt.Sprintf("k%d", i%4)
					headers := `{}`
					if key == "k1" && i == 5 {
						headers = `{"h": null}`
					}
					exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', $1, 'T', $2, $3)`,
						key, []byte(fmt.Sprint(i)), headers)
					want[key] = append(want[key], fmt.Sprint(i))
				}
			}
			put(0, 40)
			cfg := r.config()
			cfg.BatchRows = 7
			r.endAt(cfg, at, 2)
			r.endAt(cfg, at, 3)
			put(40, 60)
			s := r.start(cfg)
			r.putEvent("end", "end")
			r.awaitEnd(orders)
			exec(t, r.conn, `UPDATE outbox_parked SET headers = NULL WHERE cause = 'refused'`)
			s.stop()
			if got := len(r.parkedRows()["k1"]); got != 14 {
				t.Errorf("%d rows are parked: %q", got, r.parkedRows())
			}
			exec(t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason) VALUES ('outbox', 'retry', 'order', 'k1', 'test')`)
			// There is nothing else to do at first, so it is batches of parked rows that end here.
			r.endAt(cfg, at, 1)
			r.endAt(cfg, at, 2)
			put(60, 80)
			r.endAt(cfg, at, 2)
			put(80, 90)
			s = r.start(cfg)
			until(t, func() bool {
				return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE done_at IS NULL`) == 0
			})
			put(90, 94)
			r.putEvent("end", "end2")
			r.awaitRecord(orders, func(record *kgo.Record) bool { return string(record.Value) == "end2" })
			s.stop()
			want["end"] = []string{"end", "end2"}
			r.expect(orders, want)
			r.expectParked(nil)
			if published := query[int64](t, r.conn, `SELECT events FROM outbox_parked_audit`); published < 14 {
				t.Errorf("the retry counts %d events", published)
			}
		})
	}
}

// What a batch has parked that was never committed is not parked: the row may have been corrected
// since. Another process takes the lane over while the batch is on its way.
func TestWhatAnUncommittedBatchHasParkedIsUndone(t *testing.T) {
	t.Parallel()
	for _, at := range []pipeline.Step{pipeline.AfterIntent, pipeline.BeforeEnd} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.putEvent("b", "1")
			exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', '1', '{"h": null}')`)
			r.putEvent("a", "2")
			cfg := r.config()
			var once sync.Once
			cfg.Step = func(step pipeline.Step) {
				if step == at {
					once.Do(func() { r.interlude(map[string][]string{"a": {"refused 1", "behind 2"}}) })
				}
			}
			s := r.start(cfg)
			s.awaitRows(t, 3)
			s.stop()
			r.expectParked(nil)
			r.expect(orders, map[string][]string{"a": {"1", "2"}, "b": {"1"}})
		})
	}
}

// interlude takes the lane over and gives it up again, after a person has corrected the rows in the
// outbox.
func (r *rig) interlude(parked map[string][]string) {
	r.expectParked(parked)
	exec(r.t, r.conn, `UPDATE outbox SET headers = NULL`)
	s, err := r.takeOver(r.config(), "another")
	if err != nil {
		r.t.Error(err)
		return
	}
	r.expectParked(nil)
	s.Close()
	s.row.Close()
}

// A retry comes while rows of its aggregate are being parked, by batches whose intents take their
// time: it is not at its end before those are written.
func TestARetryWaitsForWhatIsBeingParked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slow := open(t, r.url)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', '1', '{"h": null}')`)
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.BatchRows = 3
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeIntent {
			exec(t, slow, `SELECT pg_sleep(0.1)`)
		}
	}
	s := r.start(cfg)
	s.awaitRows(t, 1)
	exec(t, r.conn, `UPDATE outbox_parked SET headers = NULL`)
	want := []string{"1"}
	for i := 2; i <= 60; i++ {
		if i == 20 {
			exec(t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason) VALUES ('outbox', 'retry', 'order', 'a', 'test')`)
		}
		r.putEvent("a", fmt.Sprint(i))
		exec(t, r.conn, `SELECT pg_sleep(0.05)`)
		want = append(want, fmt.Sprint(i))
	}
	until(t, func() bool { return len(r.parkedRows()) == 0 })
	s.awaitRows(t, 61)
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers", len(s.takeovers))
	}
	r.expect(orders, map[string][]string{"a": want, "b": {"1"}})
}

// endAt runs a relay until it reaches a step for the nth time, where nothing more happens in it, as
// in a process that was killed: its sessions on Postgres are ended and its producers are fenced by
// the next.
func (r *rig) endAt(cfg Config, at pipeline.Step, n int) {
	r.t.Helper()
	reached, release := make(chan struct{}), make(chan struct{})
	count := 0
	cfg.DrainTimeout = time.Millisecond
	cfg.Step = func(step pipeline.Step) {
		if step != at {
			return
		}
		if count++; count == n {
			exec(r.t, r.conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'relay %' AND datname = current_database()`)
			close(reached)
			<-release
		}
	}
	s := r.start(cfg)
	idle := time.NewTimer(2 * time.Second)
	defer idle.Stop()
	select {
	case <-reached:
	case <-idle.C: // there was less to do than that
	}
	close(release)
	s.stop()
}
