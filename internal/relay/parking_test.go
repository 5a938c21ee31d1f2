package relay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// poison is the text in a payload that the broker of refusePoison does not take.
const poison = "poison"

// refusePoison makes the broker refuse each batch of one partition that has a poisoned record, whole, as brokers do. It returns
// how many it has refused.
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

// parkedRows are the payloads parked for each aggregate, in the order of its queue, with their causes.
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

// ask asks for something to be done about a parked aggregate and waits until it is done; it returns what came of it.
func (r *rig) ask(action, key string, msgID *string) string {
	r.t.Helper()
	request := query[int64](r.t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, reason)
		VALUES ('outbox', $1, 'order', $2, $3, 'test') RETURNING request`, action, key, msgID)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if outcome := query[string](r.t, r.conn, `SELECT coalesce(min(outcome || ' ' || events), '') FROM outbox_parked_audit
			WHERE request = $1 AND done_at IS NOT NULL`, request); outcome != "" {
			return outcome
		}
	}
	r.t.Fatalf("%s of %s was not done", action, key)
	return ""
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
	cfg.Poison = Skip
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

// A topic that is away holds its own aggregates only, and they go out by themselves.
func TestATopicThatIsAwayHoldsItsAggregatesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	onto := func(key, topic, value string) {
		exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', $1, 'T', $2, $3)`, key, topic, []byte(value))
	}
	onto("a", "late", "1")
	r.putEvent("a", "2")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.Topics.Patience = 50 * time.Millisecond
	s := r.start(cfg)
	s.awaitRows(t, 1)
	onto("a", "late", "3")
	onto("c", "late", "1")
	r.putEvent("b", "2")
	s.awaitRows(t, 2)
	if status := s.state(); status.State != Running || !strings.Contains(status.Reason, "topic late is away") {
		t.Errorf("the lane says %s: %s", status.State, status.Reason)
	}
	s.stop()
	r.expect(orders, map[string][]string{"b": {"1", "2"}})
	s = r.start(cfg) // what is held is known to the next owner
	r.putEvent("b", "3")
	s.awaitRows(t, 1)
	if err := r.cluster.CreateTopic("late", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.await(t, "all is published", func(rec *recorder) bool { return rec.rows == 5 })
	r.putEvent("b", "4")
	onto("a", "late", "4")
	s.await(t, "all is published", func(rec *recorder) bool { return rec.rows == 7 })
	s.stop()
	r.expect(orders, map[string][]string{"a": {"2"}, "b": {"1", "2", "3", "4"}})
	r.expect("late", map[string][]string{"a": {"1", "3", "4"}, "c": {"1"}})
	r.expectParked(nil)
	if status := s.state(); status.Reason != "" {
		t.Errorf("the lane still says %q", status.Reason)
	}
}

// A denied topic is found out by writing to it.
func TestADeniedTopicHoldsItsAggregatesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.cluster.CreateTopic("denied", 1, nil); err != nil {
		t.Fatal(err)
	}
	r.denyWrites("denied", 4)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'a', 'T', 'denied', '1')`)
	r.putEvent("a", "2")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.Topics.Patience = 30 * time.Millisecond
	s := r.start(cfg)
	s.await(t, "b goes out before a", func(rec *recorder) bool { return rec.rows == 1 })
	r.expect(orders, map[string][]string{"b": {"1"}})
	s.await(t, "a goes out once it may", func(rec *recorder) bool { return rec.rows == 3 })
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers", len(s.takeovers))
	}
	r.expect("denied", map[string][]string{"a": {"1"}})
	r.expect(orders, map[string][]string{"a": {"2"}, "b": {"1"}})
}

// denyWrites refuses the first n batches for a topic.
func (r *rig) denyWrites(topic string, n int) {
	left := make(chan int, 1)
	left <- n
	id := r.cluster.TopicInfo(topic).TopicID
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		denied := false
		for _, t := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition = p.Partition
				if t.Topic == topic || t.TopicID == id && id != [16]byte{} {
					denied, part.ErrorCode = true, kerr.TopicAuthorizationFailed.Code
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		count := <-left
		if denied = denied && count > 0; denied {
			count--
		}
		left <- count
		return response, nil, denied
	})
}

// Whatever step a process ends at, what is parked is parked once and comes back once.
func TestParkingSurvivesAnEndAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, at := range Steps() {
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
			put(60, 80)
			r.endAt(cfg, at, 1)
			r.endAt(cfg, at, 2)
			put(80, 90)
			s = r.start(cfg)
			deadline := time.Now().Add(patience)
			for query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE done_at IS NULL`) > 0 {
				if time.Now().After(deadline) {
					t.Fatal("the retry is not done")
				}
			}
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

// endAt runs a relay until it reaches a step for the nth time, where nothing more happens in it, as in a process that was
// killed: its sessions on Postgres are ended and its producers are fenced by the next.
func (r *rig) endAt(cfg Config, at Step, n int) {
	r.t.Helper()
	reached, release := make(chan struct{}), make(chan struct{})
	count := 0
	cfg.DrainTimeout = time.Millisecond
	cfg.Step = func(step Step) {
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

func TestOutagesAreNoFaultsAndFaultsNoOutages(t *testing.T) {
	for _, err := range []error{kerr.TopicAuthorizationFailed, kerr.NotEnoughReplicas, kgo.ErrRecordTimeout, kerr.UnknownTopicOrPartition} {
		if !isOutage(fmt.Errorf("produce: %w", err)) || isRowFault(err) {
			t.Errorf("%v is no outage", err)
		}
	}
	for _, err := range []error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.ProducerFenced, kerr.UnknownServerError} {
		if isOutage(err) {
			t.Errorf("%v is taken for an outage", err)
		}
	}
}

func TestALoweredLimitIsForgotten(t *testing.T) {
	o := newOutages(time.Second)
	o.lower("t", 1000_000, 400_000)
	if got := o.limit("t"); got != 500_000 {
		t.Errorf("the limit is %d", got)
	}
	o.limits["t"] = lowered{1, time.Now().Add(-time.Second)}
	if got := o.limit("t"); got < 1000_000_000 {
		t.Errorf("the limit is still %d", got)
	}
}

func TestPageIsCutBeforeTheRowThatHaltsTheLane(t *testing.T) {
	k := &parking{cfg: &Config{Poison: Halt}, topics: newTopicRegistry(&Config{}, nil, newOutages(time.Hour)), keys: map[string]parkedKey{}}
	d, p := decoder(), &page{}
	for id := range int64(5) {
		if err := d.add(p, binaryRow(id+10, nil)); err != nil {
			t.Fatal(err)
		}
	}
	p.faults = []rowFault{{3, errShape}}
	p.window, p.after = Progress{From: beginning, To: Snapshot{Xmin: 9, Xmax: 9}}, Progress{From: Snapshot{Xmin: 9, Xmax: 9}}
	pl := k.sieve(p)
	if pl.halted == nil || pl.sent != 3 || pl.after.LastID != 12 || !pl.after.Open() || !slices.Equal(pl.drop, []bool{false, false, false, true, true}) {
		t.Errorf("%+v", pl)
	}
}
