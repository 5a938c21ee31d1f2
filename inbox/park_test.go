package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

type retryOutcome struct {
	inboxloop.Retried
	err error
}

func (w *world) retry(b box, key inboxloop.ParkedKey) retryOutcome {
	got, err := b.Retry(w.Context(), key, retried)
	return retryOutcome{got, err}
}

// wantRetried retries the first message of the key, which must be that one; no id means that the
// queue was empty.
func (w *world) wantRetried(key inboxloop.ParkedKey, id string, left bool) {
	w.Helper()
	got := w.retry(w, key)
	if got.err != nil || got.Busy || got.Message.ID != id || got.Left != left || id != "" && got.Result != inbox.Processed {
		w.Fatalf("%+v", got)
	}
}

func TestAPermanentFailureParksAtOnceAndLaterOnesOfTheKeyBehindIt(t *testing.T) {
	each(t, func(w *world) {
		h := func(ctx context.Context, tx transaction) error {
			return errors.Join(write(ctx, tx, "half"), fmt.Errorf("handle: %w", inbox.Permanent(errors.New("no such account"))))
		}
		w.want(inbox.Parked, w, message("1", "k"), h)
		w.want(inbox.Duplicate, w, message("1", "k"), never)
		w.want(inbox.Parked, w, message("2", "k"), never)
		w.want(inbox.Parked, w.process(nil), message("3", "k"), never)
		w.want(inbox.Processed, w, message("4", "other"), effect("4"))
		elsewhere := message("5", "k")
		elsewhere.Topic = "refunds"
		w.want(inbox.Processed, w, elsewhere, effect("5"))
		w.wantQueue("1 permanent", "2 behind", "3 behind")
		w.wantEffects("4", "5")
		w.wantRows("SELECT coalesce(error, '-') || ' ' || attempts FROM inbox_parked ORDER BY id", "handle: no such account 1", "- 0", "- 0")
	})
}

func TestAMessageWithoutAKeyIsParkedAloneAndTheEmptyKeyIsAKey(t *testing.T) {
	each(t, func(w *world) {
		alone := func(id string) inbox.Message { m := message(id, ""); m.Key = nil; return m }
		w.park(alone("1"))
		w.want(inbox.Processed, w, alone("2"), effect("2"))
		w.park(alone("3"))
		w.park(message("4", ""))
		w.want(inbox.Parked, w, message("5", ""), never)
		w.want(inbox.Processed, w, alone("6"), effect("6"))
		equal(w, "keys", w.count("inbox_parked_keys"), 3)
		w.wantEffects("2", "6")
	})
}

func TestAPermanentPanicParksWithItsStack(t *testing.T) {
	each(t, func(w *world) {
		w.want(inbox.Parked, w, message("1", "k"), func(context.Context, transaction) error {
			panic(inbox.Permanent(errors.New("\x00 no \xff such account " + strings.Repeat("ü", 5000))))
		})
		text := w.rows("SELECT error FROM inbox_parked")[0]
		if !strings.Contains(text, "such account") || len(text) > 4200 {
			w.Fatalf("%d bytes: %s", len(text), text)
		}
	})
}

func TestAParkedMessageComesBackAsItWas(t *testing.T) {
	each(t, func(w *world) {
		for name, m := range map[string]inbox.Message{
			"full": {
				ID: "1", Source: "shop", Topic: "orders", Key: []byte{0, 0xff}, Partition: 7, Offset: 1 << 40, Type: "Placed",
				Time: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), Payload: []byte{0, 1, 0xff},
				Headers: []inbox.Header{
					{Name: "a", Value: []byte("1")}, {Name: "a", Value: []byte("2")}, {Name: "nil"}, {Name: "empty", Value: []byte{}},
					{Name: "", Value: []byte(`"{},\`)}, {Name: "b\xff\x00", Value: []byte{0xff, 0}},
				},
			},
			"bare":           {ID: "2", Source: "shop"},
			"empty":          {ID: "3", Source: "shop", Key: []byte{}, Payload: []byte{}, Offset: -1},
			"from no topic":  {ID: "4", Source: "shop", Offset: -1, Partition: -1},
			"far future":     {ID: "5", Source: "shop", Time: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)},
			"before the era": {ID: "6", Source: "shop", Time: time.UnixMilli(-1).UTC()},
		} {
			w.park(m)
			key := w.request()
			equal(w, name+": key", key.Key, m.Key)
			got, err := w.Retry(w.Context(), key, func(_ context.Context, _ transaction, again inbox.Message) error {
				if again.Time.Equal(m.Time) {
					again.Time = m.Time
				}
				equal(w, name, again, m)
				return nil
			})
			if err != nil || got.Result != inbox.Processed {
				w.Fatal(name, err)
			}
			w.wantRetried(key, "", false)
		}
	})
}

// A sender may write any time into a record. Whatever it is, the message can be parked, and no
// other time takes its place.
func TestAMessageWithAnImpossibleTimeIsParkedWithoutIt(t *testing.T) {
	each(t, func(w *world) {
		for n, when := range []time.Time{time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64), time.UnixMilli(1e15), time.UnixMilli(-1e15)} {
			m := message(fmt.Sprint(n), "k"+fmt.Sprint(n))
			m.Time = when
			w.park(m)
		}
		equal(w, "parked", w.count("inbox_parked WHERE record_time IS NULL"), 4)
	})
}

func TestRetryRunsTheQueueOfAKeyInOrder(t *testing.T) {
	each(t, func(w *world) {
		for _, id := range []string{"1", "2", "3"} {
			if id == "1" {
				w.park(message(id, "k"))
				continue
			}
			w.want(inbox.Parked, w, message(id, "k"), never)
		}
		if got := w.retry(w, inboxloop.ParkedKey{ID: 1}); got.err != nil || !got.Busy {
			w.Fatalf("nothing was asked for: %+v", got)
		}
		key := w.request()
		w.wantRetried(key, "1", true)
		w.want(inbox.Parked, w, message("4", "k"), never) // behind the others, which still wait
		for _, id := range []string{"2", "3", "4"} {
			w.wantRetried(key, id, true)
		}
		w.wantRetried(key, "", false)
		w.want(inbox.Processed, w, message("5", "k"), effect("5"))
		w.want(inbox.Duplicate, w, message("2", "k"), never)
		w.wantEffects("1", "2", "3", "4", "5")
		w.wantRows("SELECT action || ' ' || (details->>'outcome') FROM inbox_audit", "retried all messages of the key are handled")
	})
}

func TestARetryThatFailsEndsTheRequestAndKeepsTheQueue(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "k"))
		w.want(inbox.Parked, w, message("2", "k"), never)
		key := w.request()
		broken := errors.New("still no such account")
		for range 5 { // failures in good order are not taken for a process that ended
			got, err := w.Retry(w.Context(), key, func(ctx context.Context, tx transaction, m inbox.Message) error {
				return errors.Join(write(ctx, tx, "half"), broken)
			})
			if !errors.Is(err, broken) || got.Result != inbox.Failed || got.Message.ID != "1" || !got.Left {
				w.Fatalf("%+v %v", got, err)
			}
		}
		if err := w.RetryFailed(w.Context(), key, broken); err != nil {
			w.Fatal(err)
		}
		w.wantEffects()
		w.wantQueue("1 attempts", "2 behind")
		w.wantRows("SELECT error || ' ' || attempts FROM inbox_parked WHERE msg_id = '1'", "still no such account 6")
		w.wantRows("SELECT (requested_at IS NULL AND requested_by IS NULL AND reason IS NULL)::text FROM inbox_parked_keys", "true")
		w.wantRows("SELECT action || ' ' || msg_id || ' ' || (details->>'outcome') FROM inbox_audit", "retried 1 failed again")
		equal(w, "records of starts", w.count("inbox_started"), 0)
		w.wantRetried(w.request(), "1", true)
	})
}

func TestARetryThatEndsItsProcessAgainAndAgainFails(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "k"))
		key := w.request()
		w.do("INSERT INTO inbox_started VALUES ('billing', 'shop', inbox_key('1'), 3)")
		got, err := w.Retry(w.Context(), key, func(context.Context, transaction, inbox.Message) error { return errors.New("must not run") })
		if err == nil || !strings.Contains(err.Error(), "ended 3 times") || got.Result != inbox.Failed || !inbox.IsPermanent(err) {
			w.Fatalf("%+v %v", got, err)
		}
		if err := w.RetryFailed(w.Context(), key, err); err != nil {
			w.Fatal(err)
		}
		w.wantRetried(w.request(), "1", true) // somebody who asks again has mended it
	})
}

func TestRequestedNamesTheKeysOfThisConsumerTheOldestRequestFirst(t *testing.T) {
	each(t, func(w *world) {
		for _, k := range []string{"a", "b", "c"} {
			w.park(message(k, k))
		}
		other := w.process(func(c *inbox.Config) { c.Consumer = "mailing" })
		if _, err := other.Park(w.Context(), message("x", "x"), inbox.CauseAttempts, 1, nil); err != nil {
			w.Fatal(err)
		}
		w.do("UPDATE inbox_parked_keys SET requested_at = now() - CASE key WHEN 'b' THEN interval '2 h' ELSE interval '1 h' END WHERE key <> 'c'")
		keys, err := w.Requested(w.Context(), 10)
		if err != nil || len(keys) != 2 || string(keys[0].Key) != "b" || string(keys[1].Key) != "a" || keys[0].Topic != "orders" {
			w.Fatal(keys, err)
		}
		if keys, err = w.Requested(w.Context(), 1); err != nil || len(keys) != 1 || string(keys[0].Key) != "b" {
			w.Fatal(keys, err)
		}
	})
}

func TestParkedKeysOfThisConsumerAreCountedWithTheAgeOfTheFirst(t *testing.T) {
	each(t, func(w *world) {
		if keys, oldest, err := w.Parked(w.Context()); keys != 0 || oldest != 0 || err != nil {
			w.Fatalf("nothing is parked, and Parked gave %d, %v, %v", keys, oldest, err)
		}
		for _, k := range []string{"a", "b"} {
			w.park(message(k, k))
		}
		w.park(message("a2", "a"))
		other := w.process(func(c *inbox.Config) { c.Consumer = "mailing" })
		if _, err := other.Park(w.Context(), message("x", "x"), inbox.CauseAttempts, 1, nil); err != nil {
			w.Fatal(err)
		}
		w.do("UPDATE inbox_parked_keys SET parked_at = now() - interval '1 h' WHERE key = 'b'")
		keys, oldest, err := w.Parked(w.Context())
		if keys != 2 || oldest < time.Hour || oldest > time.Hour+time.Minute || err != nil {
			w.Fatalf("Parked gave %d, %v, %v; want 2 keys of an hour", keys, oldest, err)
		}
	})
}

// What is parked for its size has no payload: a handler that got it would take it for a tombstone.
func TestWhatWasNotReadIsNotRetried(t *testing.T) {
	each(t, func(w *world) {
		m := message("5@0", "")
		m.Key, m.Payload = nil, nil
		if result, err := w.Park(w.Context(), m, inbox.CauseSize, 0, errors.New("too large")); result != inbox.Parked || err != nil {
			w.Fatalf("Park gave %v, %v", result, err)
		}
		got := w.retry(w, w.request())
		if !inbox.IsPermanent(got.err) || !got.Left {
			w.Errorf("%+v", got)
		}
		w.wantQueue("5@0 size")
		w.wantEffects()
	})
}

// A retry is for the process that works on the partition of the key, and for any if none does.
func TestARetryIsLeftToWhoWorksOnThePartition(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		w.park(m)
		w.request() // of a partition without an owner
		other := w.process(nil)
		if _, err := other.Open(w.Context(), m.Topic, m.Partition); err != nil {
			w.Fatal(err)
		}
		for _, c := range []struct {
			b    box
			want int
		}{{w, 0}, {other, 1}} {
			if keys, err := c.b.Requested(w.Context(), 10); err != nil || len(keys) != c.want {
				w.Errorf("Requested gave %v, %v; want %d keys", keys, err, c.want)
			}
		}
		if err := other.Close(w.Context(), m.Topic, m.Partition); err != nil {
			w.Fatal(err)
		}
		if keys, err := w.Requested(w.Context(), 10); err != nil || len(keys) != 1 {
			w.Errorf("Requested gave %v, %v once no process works on the partition", keys, err)
		}
	})
}
