package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/recovery"
)

// recoveryOptions are those of a lane of cfg, as package relay at the root of the module makes them.
func recoveryOptions(cfg Config) recovery.Options {
	cfg = cfg.WithDefaults()
	lane := cfg.Lanes[0]
	cfg = cfg.of(lane)
	return recovery.Options{
		DatabaseURL: cfg.url, Brokers: cfg.Brokers, KafkaOptions: cfg.KafkaOptions, Name: cfg.Name, Lanes: laneNames(cfg.Lanes),
		Lane: lane.Name, Table: lane.Table, Route: cfg.Route, TopicsAllow: cfg.Topics.Allow, TransactionTimeout: cfg.TransactionTimeout,
		Agreed: cfg.Agreed(lane), Logger: cfg.Logger,
	}
}

// recovery is that of the rig's lane.
func (r *rig) recovery(cfg Config) *recovery.Recovery { return r.recoveryWith(recoveryOptions(cfg)) }

func (r *rig) recoveryWith(o recovery.Options) *recovery.Recovery {
	r.t.Helper()
	recovery, err := recovery.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return recovery
}

func (r *rig) inspect() *recovery.Findings {
	r.t.Helper()
	f, err := r.recovery(r.config()).Inspect(r.t.Context(), recovery.Look{})
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// mustHalt takes the lane over in vain, and returns what is to be tried.
func (r *rig) mustHalt(cause checkpoint.Cause, says string) (try string) {
	r.t.Helper()
	_, err := r.takeOver(r.config(), "next")
	fault := (*checkpoint.HaltError)(nil)
	if !errors.As(err, &fault) || fault.Cause != cause || !strings.Contains(fault.Diagnosis, says) {
		r.t.Fatalf("got %v, want a halt for %s that says %q", err, cause, says)
	}
	return fault.Try
}

// goesOn takes the lane over and publishes what there is.
func (r *rig) goesOn() {
	r.t.Helper()
	r.insertEnd()
	s := r.start(r.config())
	r.awaitEnd(orders)
	s.stop()
}

func (r *rig) insertEnd() {
	r.t.Helper()
	insert(r.t, r.conn, "end", "end")
}

// checkpoints are the records of the checkpoint topic, committed, sentinels left out.
func (r *rig) checkpoints() []checkpoint.Record {
	r.t.Helper()
	var all []checkpoint.Record
	for _, record := range r.records(checkpoint.TopicName("test"), false) {
		if string(record.Key) != checkpoint.Key {
			continue
		}
		c, err := checkpoint.Decode(record.Value)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// append writes a checkpoint as if Kafka had it last.
func (r *rig) append(c checkpoint.Record) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	value, err := c.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	record := &kgo.Record{Topic: checkpoint.TopicName("test"), Key: []byte(checkpoint.Key), Value: value}
	if err := client.ProduceSync(r.t.Context(), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// laneText is the lane's row without what every takeover changes.
func (r *rig) laneText() string {
	r.t.Helper()
	return query[string](r.t, r.conn, `SELECT (to_jsonb(l) - '{owner,owner_epoch,owner_pid,owner_started,state,reason,updated_at}'::text[])::text FROM relay_lanes l`)
}

// The command dies at each of its steps, and each time the lane halts until it is run to its end.
func TestARecoveryCutShortHaltsUntilItIsRunAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step  recovery.Step
		cause checkpoint.Cause
		says  string
		way   recovery.Choice
	}{
		{recovery.Begun, checkpoint.DatabaseBehind, "Postgres knows only of batch", recovery.ChooseKafka},
		{recovery.Signed, checkpoint.UnfinishedRecovery, "cut short", recovery.ChooseKafka},
		{recovery.Signed, checkpoint.UnfinishedRecovery, "cut short", recovery.ChoosePostgres},
	} {
		t.Run(string(c.step)+" "+string(c.way), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			want := r.insertOrders(3, "v")
			r.runOnce(r.config())
			exec(t, r.conn, `UPDATE relay_lanes SET seq = seq - 1, confirmed_seq = confirmed_seq - 1`)
			before := r.laneText()
			o := recoveryOptions(r.config())
			o.Step = func(step recovery.Step) {
				if step == c.step {
					panic(step)
				}
			}
			func() {
				defer func() {
					if died := recover(); died != c.step {
						t.Errorf("the command died of %v", died)
					}
				}()
				outcome, err := r.recoveryWith(o).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseKafka, Who: "one"})
				t.Errorf("the command went to its end: %+v, %v", outcome, err)
			}()
			if after := r.laneText(); after != before {
				t.Errorf("the row changed from %s to %s", before, after)
			}
			r.mustHalt(c.cause, c.says)
			if n := query[int](t, r.conn, `SELECT count(*)::int FROM relay_recoveries WHERE finished_at IS NULL`); n != 1 {
				t.Errorf("%d unfinished recoveries", n)
			}
			r.expect(orders, want)
			outcome, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: c.way, Who: "two", Why: "again"})
			if err != nil {
				t.Fatal(err)
			}
			if note := outcome.Checkpoint.Recovery; note == nil || note.Who != "two" || note.Why != "again" || note.Cause != c.cause {
				t.Errorf("the checkpoint says %+v", note)
			}
			r.goesOn()
			r.expect(orders, merge(want, theEnd))
		})
	}
}

// The database is set back to before a recovery that was finished: Kafka's checkpoint is still the
// one that the recovery wrote, and to finish that once more would be wrong.
func TestAFinishedRecoveryIsNotTakenForOneCutShort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	exec(t, r.conn, `UPDATE relay_lanes SET seq = seq + 40; CREATE TABLE earlier AS SELECT * FROM relay_lanes`)
	if _, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseSkipToNow}); err != nil {
		t.Fatal(err)
	}
	exec(t, r.conn, `DELETE FROM relay_recoveries; DELETE FROM relay_lanes; INSERT INTO relay_lanes SELECT * FROM earlier`)
	r.mustHalt(checkpoint.DatabaseBehind, "restored to an earlier time")
	for _, o := range r.inspect().Choices {
		if o.Choice == recovery.ChooseKafka && o.Caution == "" {
			t.Error("kafka is open without a caution")
		}
	}
}

// A number that was used is not used again, and the first batch after a recovery bears the next
// one.
func TestARecoveryTakesANumberOfItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	exec(t, r.conn, `UPDATE relay_lanes SET seq = seq + 40`)
	r.mustHalt(checkpoint.CheckpointBehind, "Kafka holds only batch")
	seq := query[int64](t, r.conn, `SELECT seq FROM relay_lanes`)
	outcome, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseSkipToNow})
	if err != nil || outcome.Checkpoint.Seq != seq+1 {
		t.Fatalf("%+v, %v; want batch %d", outcome, err, seq+1)
	}
	if row := query[string](t, r.conn, `SELECT concat_ws('|', seq, confirmed_seq, state) FROM relay_lanes`); row != fmt.Sprintf("%d|%d|waiting", seq+1, seq+1) {
		t.Errorf("the row says %s", row)
	}
	r.goesOn()
	if last := r.checkpoints(); last[len(last)-1].Seq != seq+2 || last[len(last)-1].Recovery != nil {
		t.Errorf("the next batch is %+v", last[len(last)-1])
	}
}

// Kafka loses the last checkpoint of an idle lane. The row has confirmed the batch, so it is not
// taken for an intent that never became a commit, and published twice.
func TestALostCheckpointOfAnIdleLaneIsNotPublishedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.insertOrders(3, "one")
	r.runOnce(r.config())
	second := r.insertOrders(3, "two")
	s := r.start(r.config())
	s.awaitRows(t, 3)
	s.stop() // confirms
	all := r.checkpoints()
	r.append(all[len(all)-2])
	r.mustHalt(checkpoint.CheckpointBehind, "has lost records")
	f := r.inspect()
	for _, o := range f.Choices {
		if o.Choice == recovery.ChoosePostgres && (o.New.Count != 0 || o.Again.Count != 0) {
			t.Errorf("postgres publishes %+v and again %+v", o.New, o.Again)
		}
		if o.Choice == recovery.ChooseKafka && o.Again.Count != 3 {
			t.Errorf("kafka publishes %+v again", o.Again)
		}
	}
	if _, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChoosePostgres}); err != nil {
		t.Fatal(err)
	}
	r.goesOn()
	r.expect(orders, merge(first, second, theEnd))
}

// An intent that was not confirmed may not have been committed: the batch is done again.
func TestAnIntentThatWasNotConfirmedIsDoneAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "one")
	r.runOnce(r.config())
	s, err := r.takeOver(r.config(), "dies")
	if err != nil {
		t.Fatal(err)
	}
	more := r.insertOrders(3, "two")
	page, err := s.Reader.Next(t.Context(), s.Last.Position)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.row.Intent(t.Context(), lanestore.Intent{Seq: s.Last.Seq + 1, After: page.After}, nil); err != nil {
		t.Fatal(err)
	}
	if f := r.inspect(); f.Cause != "" {
		t.Errorf("a contradiction is seen where there is none: %s", f.Diagnosis)
	}
	s.Close()
	s.row.Close()
	r.goesOn()
	r.expect(orders, merge(want, more, theEnd))
}

// The row is from between an intent that was withdrawn and the one that took its number: a database
// that was restored to a moment inside a takeover. The numbers agree.
func TestTheSameNumberIsNotTheSameBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	zeroth := r.insertOrders(2, "zero")
	r.runOnce(r.config())
	s, err := r.takeOver(r.config(), "dies")
	if err != nil {
		t.Fatal(err)
	}
	first := r.insertOrders(2, "one")
	page, err := s.Reader.Next(t.Context(), s.Last.Position)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.row.Intent(t.Context(), lanestore.Intent{Seq: s.Last.Seq + 1, After: page.After}, nil); err != nil {
		t.Fatal(err)
	}
	exec(t, r.conn, `CREATE TABLE earlier AS SELECT * FROM relay_lanes`)
	s.Close()
	s.row.Close()
	second := r.insertOrders(2, "two")
	other := r.start(r.config())
	other.awaitRows(t, 4)
	other.stop()
	exec(t, r.conn, `DELETE FROM relay_lanes; INSERT INTO relay_lanes SELECT * FROM earlier`)
	r.mustHalt(checkpoint.AnotherBatch, "not the same batch")
	if _, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseKafka}); err != nil {
		t.Fatal(err)
	}
	r.goesOn()
	r.expect(orders, merge(zeroth, first, second, theEnd))
}

// A takeover that signs the checkpoint for a new timeline dies before its claim: the batch keeps
// its name.
func TestATakeoverThatDiesAfterItSignedIsTakenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	// As if both had been written before a promotion.
	all := r.checkpoints()
	older := all[len(all)-1]
	older.Identity.Timeline--
	r.append(older)
	exec(t, r.conn, `UPDATE relay_lanes SET cluster_identity = jsonb_set(cluster_identity, '{timeline}', '0')`)
	exec(t, r.conn, `CREATE TABLE earlier AS SELECT * FROM relay_lanes`)
	s, err := r.takeOver(r.config(), "dies")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.row.Close()
	if all = r.checkpoints(); all[len(all)-1].Identity.Timeline != 1 {
		t.Fatalf("not signed: %+v", all[len(all)-1])
	}
	exec(t, r.conn, `DELETE FROM relay_lanes; INSERT INTO relay_lanes SELECT * FROM earlier`)
	r.goesOn()
	r.expect(orders, merge(want, theEnd))
}

// Rows from a dump of a server with more transactions behind it would be read again at every look.
func TestRowsOfAnotherServersTransactionsHalt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	outboxtest.Unguard(t, r.conn)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, xact_id)
VALUES ('order', 'dumped', 'Changed', 'dumped', '4000000000')`)
	try := r.mustHalt(checkpoint.ForeignRows, "4000000000")
	if f := r.inspect(); f.Cause != checkpoint.ForeignRows || len(f.Choices) > 0 {
		t.Errorf("cause %s, choices %+v", f.Cause, f.Choices)
	}
	if _, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseSkipToNow}); !errors.Is(err, recovery.ErrClosed) {
		t.Errorf("got %v", err)
	}
	// What is to be tried is run as it stands there.
	_, statement, _ := strings.Cut(try, "run ")
	statement, _, _ = strings.Cut(statement, ";")
	exec(t, r.conn, statement)
	r.goesOn()
	r.expect(orders, merge(want, map[string][]string{"dumped": {"dumped"}}, theEnd))
}

// The server has come less far than Kafka's checkpoint knows: ids that it deems ended would be
// given out again.
func TestACheckpointAheadOfTheServerHalts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	all := r.checkpoints()
	ahead := all[len(all)-1]
	ahead.From = position.Snapshot{Xmin: 1<<40 + 7, Xmax: 1<<40 + 7}
	r.append(ahead)
	r.mustHalt(checkpoint.DatabaseBehind, "has come only to")
	f := r.inspect()
	for _, o := range f.Choices {
		if o.Choice == recovery.ChooseKafka {
			t.Errorf("kafka is open: %+v", o)
		}
	}
}

func TestARecoveryIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	decide := func(choice recovery.Choice, from string) error {
		_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: choice, From: from})
		return err
	}
	if err := decide(recovery.ChooseKafka, ""); !errors.Is(err, recovery.ErrAgree) {
		t.Errorf("where the logs agree: %v", err)
	}
	exec(t, r.conn, `UPDATE relay_lanes SET seq = seq - 1`)
	for _, from := range []string{"-1", "yesterday", "2999-01-01T00:00:00Z"} {
		if err := decide(recovery.ChooseRestartFrom, from); !errors.Is(err, recovery.ErrPlace) {
			t.Errorf("from %s: %v", from, err)
		}
	}
	if err := decide("guess", ""); !errors.Is(err, recovery.ErrClosed) {
		t.Errorf("a way that does not exist: %v", err)
	}
	holder := r.laneOwner("holder")
	if ok, err := holder.TryLock(t.Context()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	before, checkpoints := r.laneText(), len(r.checkpoints())
	if err := decide(recovery.ChooseKafka, ""); !errors.Is(err, recovery.ErrBusy) {
		t.Errorf("while a relay runs the lane: %v", err)
	}
	if err := holder.Ping(t.Context()); err != nil {
		t.Errorf("the relay was disturbed: %v", err)
	}
	if after := r.laneText(); after != before || len(r.checkpoints()) != checkpoints {
		t.Errorf("a refusal has changed %s to %s", before, after)
	}
	other := recoveryOptions(r.config())
	other.Lane = "other"
	if _, err := recovery.New(other); !errors.Is(err, recovery.ErrNoLane) {
		t.Errorf("a lane that does not exist: %v", err)
	}
}

// The JSON form names what it holds; a zero time or a nil is no surprise to a program.
func TestFindingsAreJSON(t *testing.T) {
	r := newRig(t)
	text, err := json.Marshal(r.inspect())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"cause":""`, `"postgres":null`, `"checkpoint":null`, `"choices":[]`, `"closed":[]`, `"scan":null`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
}
