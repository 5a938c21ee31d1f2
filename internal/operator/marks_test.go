package operator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/internal/hint"
)

// some writes marks of two sources over two days, a parked message, and a claim.
func (s *stage) some() (day1, day2, end time.Time) {
	s.t.Helper()
	day1 = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	day2, end = day1.AddDate(0, 0, 1), day1.AddDate(0, 0, 2)
	s.execute(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
		SELECT c, source, inbox_key(source || n), timestamptz '2026-03-01Z' + n * interval '1 minute'
		  FROM unnest(ARRAY['billing', 'reports']) AS c, unnest(ARRAY['shop', 'till']) AS source, generate_series(0, 2879) AS n`)
	if _, err := s.billing.Park(s.t.Context(), marked("parked"), inbox.CausePermanent, 1, errors.New("no such account")); err != nil {
		s.t.Fatal(err)
	}
	s.claim("claimed")
	return day1, day2, end
}

func TestForgetRemovesWhatIsMeantAndKeepsWhatIsHeld(t *testing.T) {
	s := newStage(t, "forget")
	day1, day2, _ := s.some()
	for name, test := range map[string]struct {
		selection  Selection
		shop, till int64
	}{
		"all of a consumer": {Selection{Consumer: "billing"}, 2880, 2880},
		"one source":        {Selection{Consumer: "billing", Source: "till"}, 0, 2880},
		"one day":           {Selection{Consumer: "billing", From: day1, To: day2}, 1440, 1440},
		"from a time":       {Selection{Consumer: "billing", Source: "till", From: day2.Add(time.Minute)}, 0, 1439},
		"one message":       {Selection{Consumer: "billing", MsgID: "shop7"}, 1, 0},
		"with claims":       {Selection{Consumer: "billing", Claimed: true}, 2881, 2880},
		"a stranger":        {Selection{Consumer: "nobody"}, 0, 0},
	} {
		plan, err := NewInbox(s.operator).PlanForget(t.Context(), test.selection)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, b := range plan {
			got[b.Source] = b.Marks
			if b.Source == "shop" && test.selection.MsgID == "" && test.selection.To.IsZero() && (b.Parked != 1 || b.Claimed != 1) {
				t.Errorf("%s: %d parked and %d claimed, want 1 and 1", name, b.Parked, b.Claimed)
			}
		}
		if got["shop"] != test.shop || got["till"] != test.till {
			t.Errorf("%s: the plan is %v, want %d and %d", name, got, test.shop, test.till)
		}
	}

	selection := Selection{Consumer: "billing", Source: "shop", From: day1, To: day2}
	plan, err := NewInbox(s.operator).PlanForget(t.Context(), selection)
	if err != nil {
		t.Fatal(err)
	}
	done, err := NewInbox(s.operator).Forget(t.Context(), selection, plan, "wrong tax")
	if err != nil || done.Marks != 1440 || done.Claims != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := s.count("inbox"); n != 4*2880-1440+2 {
		t.Errorf("%d marks are left, want %d", n, 4*2880-1440+2)
	}
	if n := s.count(`inbox_audit WHERE action = 'forget' AND by = 'ada_forget' AND reason = 'wrong tax' AND source = 'shop'
		AND details->'plan'->0->>'marks' = '1440' AND details->>'to' LIKE '2026-03-02%'`); n != 1 {
		t.Errorf("it is recorded %d times", n)
	}
	if again, after := s.handle("shop7"), s.handle("shop1441"); again != inbox.Processed || after != inbox.Duplicate {
		t.Errorf("a replay: what is forgotten is %v, and what is not %v", again, after)
	}
	if s.handle("parked") != inbox.Duplicate {
		t.Error("a copy of a parked message passes it")
	}
}

// forget plans and forgets.
func (s *stage) forget(selection Selection) (Forgotten, error) {
	s.t.Helper()
	plan, err := NewInbox(s.operator).PlanForget(s.t.Context(), selection)
	if err != nil {
		s.t.Fatal(err)
	}
	return NewInbox(s.operator).Forget(s.t.Context(), selection, plan, "as planned")
}

func TestForgetGoesThroughManyMarksInBatches(t *testing.T) {
	s := newStage(t, "batches")
	s.execute(`INSERT INTO inbox (consumer, source, msg_id) SELECT 'billing', 'shop ' || n % 3, inbox_key(n::text) FROM generate_series(1, 25000) AS n`)
	done, err := s.forget(Selection{Consumer: "billing"})
	if err != nil || done.Marks != 25000 || s.count("inbox") != 0 {
		t.Errorf("%+v, %v; %d are left", done, err, s.count("inbox"))
	}
}

func TestAClaimIsForgottenOnlyWhereThatIsMeant(t *testing.T) {
	s := newStage(t, "claimed")
	s.some()
	selection := Selection{Consumer: "billing", MsgID: "claimed"}
	if done, err := s.forget(selection); err != nil || done.Marks != 0 || s.count("inbox_claims") != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	selection.Claimed = true
	if done, err := s.forget(selection); err != nil || done.Marks != 1 || done.Claims != 1 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestAClaimIsSettledByAPerson(t *testing.T) {
	s := newStage(t, "claims")
	s.claim("sent")
	s.claim("lost")
	if result, err := s.billing.AtMostOnce(t.Context(), marked("lost"), func(context.Context) error {
		return errors.New("run again")
	}); err != nil || result != inbox.Audited {
		t.Fatal(result, err)
	}
	claims, err := NewInbox(s.operator).Claims(t.Context(), "billing", "shop", 0, 0)
	if err != nil || len(claims) != 2 || claims[0].MsgID != nil || *claims[1].MsgID != "lost" || *claims[0].Error != "no answer" ||
		claims[0].Instance != "billing-1" {
		t.Fatalf("%+v, %v", claims, err)
	}
	if old, err := NewInbox(s.operator).Claims(t.Context(), "", "", time.Hour, 0); err != nil || len(old) != 0 {
		t.Errorf("older than an hour: %+v, %v", old, err)
	}
	if err := NewInbox(s.operator).Settle(t.Context(), "billing", "shop", claims[0].Mark, Done, "in the log"); err != nil {
		t.Error(err)
	}
	if err := NewInbox(s.operator).Settle(t.Context(), "billing", "shop", "lost", NotDone, "never sent"); err != nil {
		t.Error(err)
	}
	if err := NewInbox(s.operator).Settle(t.Context(), "billing", "shop", "lost", NotDone, "again"); err == nil || len(hint.Of(err)) != 1 {
		t.Errorf("a second time: %v", err)
	}
	runs := 0
	for id, want := range map[string]inbox.Result{"sent": inbox.Duplicate, "lost": inbox.Processed} {
		result, err := s.billing.AtMostOnce(t.Context(), marked(id), func(context.Context) error { runs++; return nil })
		if err != nil || result != want {
			t.Errorf("%s: %v, %v; want %v", id, result, err, want)
		}
	}
	if n := s.count(`inbox_audit WHERE action = 'settle' AND by = 'ada_claims' AND details->>'claimed_by' = 'billing-1'`); n != 2 || runs != 1 {
		t.Errorf("%d are recorded, want 2; the effect ran %d times", n, runs)
	}
}

func TestEveryConsumerIsListedWithWhatIsKnown(t *testing.T) {
	s := newStage(t, "consumers")
	s.some()
	if err := s.billing.Retain(t.Context(), 36*time.Hour); err != nil {
		t.Fatal(err)
	}
	for partition := range int32(2) {
		if _, err := inboxloop.New(s.billing).Open(t.Context(), "orders", partition); err != nil {
			t.Fatal(err)
		}
	}
	s.execute(`SELECT inbox_retain('quiet', NULL)`)
	s.execute(`ANALYZE inbox`)
	consumers, err := NewInbox(s.operator).Consumers(t.Context())
	if err != nil || len(consumers) != 3 {
		t.Fatalf("%+v, %v", consumers, err)
	}
	billing, quiet, reports := consumers[0], consumers[1], consumers[2]
	if billing.Consumer != "billing" || *billing.RetentionSeconds != 36*3600 || billing.ParkedKeys != 1 || billing.ParkedMessages != 1 ||
		billing.Claims != 1 || billing.Partitions != 2 || billing.Instances != 1 || billing.OpenedAt == nil {
		t.Errorf("got %+v", billing)
	}
	for _, c := range []Consumer{billing, reports} {
		if c.MarksEstimate < 5700 || c.MarksEstimate > 5800 {
			t.Errorf("%s has about %d marks, want about 5760", c.Consumer, c.MarksEstimate)
		}
	}
	if quiet.Consumer != "quiet" || quiet.RetentionSeconds != nil || quiet.MarksEstimate != 0 || quiet.OpenedAt != nil {
		t.Errorf("got %+v", quiet)
	}
	s.execute("REVOKE inbox_operator FROM ada_consumers")
	if _, err := NewInbox(s.operator).Consumers(t.Context()); err == nil || !strings.Contains(strings.Join(hint.Of(err), " "), "inbox_operator") {
		t.Errorf("without the role: %v with %q", err, hint.Of(err))
	}
}
