package operator

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/internal/hint"
)

// parkSome parks two keys and a message without a key of billing, and one key of reports.
func (s *stage) parkSome() {
	s.t.Helper()
	s.park(s.billing, inbox.CausePermanent, "no such account: 100% sure", "1", "a1", "a2", "a3")
	s.park(s.billing, inbox.CauseCrash, "ended 3 times", "\xff\x00", "b1")
	alone := message("c1", "")
	alone.Key, alone.Payload = nil, nil
	if _, err := s.billing.Park(s.t.Context(), alone, inbox.CauseIdentity, 0, errors.New("no id")); err != nil {
		s.t.Fatal(err)
	}
	s.park(s.consumer("reports"), inbox.CauseAttempts, "timeout", "1", "a1")
	s.execute("UPDATE inbox_parked SET parked_at = now() - interval '2 hours' WHERE msg_id = 'a1' AND cause = 'permanent'")
}

func TestFiltersChooseKeysByTheirFirstMessage(t *testing.T) {
	s := newStage(t, "list")
	s.parkSome()
	for name, test := range map[string]struct {
		filter InboxFilter
		heads  []string // consumer and first message
	}{
		"all":                {InboxFilter{}, []string{"billing/a1", "billing/b1", "billing/c1", "reports/a1"}},
		"consumer":           {InboxFilter{Consumer: "reports"}, []string{"reports/a1"}},
		"topic":              {InboxFilter{Topic: "invoices"}, nil},
		"key":                {InboxFilter{Key: []byte("1")}, []string{"billing/a1", "reports/a1"}},
		"key of bytes":       {InboxFilter{Key: []byte("\xff\x00")}, []string{"billing/b1"}},
		"empty key":          {InboxFilter{Key: []byte{}}, nil},
		"cause":              {InboxFilter{Filter: Filter{Cause: "crash"}}, []string{"billing/b1"}},
		"error":              {InboxFilter{Filter: Filter{Error: "SUCH account: 100%"}}, []string{"billing/a1"}},
		"age":                {InboxFilter{Filter: Filter{OlderThan: time.Hour}}, []string{"billing/a1"}},
		"message behind":     {InboxFilter{Filter: Filter{MsgID: "a3"}}, []string{"billing/a1"}},
		"several":            {InboxFilter{Key: []byte("1"), Filter: Filter{Cause: "attempts"}}, []string{"reports/a1"}},
		"none of both":       {InboxFilter{Consumer: "reports", Filter: Filter{Cause: "crash"}}, nil},
		"the first of them":  {InboxFilter{Consumer: "billing", Filter: Filter{Limit: 1}}, []string{"billing/a1"}},
		"an unknown key id":  {InboxFilter{KeyID: 4711}, nil},
		"unknown message id": {InboxFilter{Filter: Filter{MsgID: "zz"}}, nil},
	} {
		list, err := NewInbox(s.operator).List(t.Context(), test.filter)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var heads []string
		for _, k := range list.Keys {
			heads = append(heads, k.Consumer+"/"+k.MsgID)
		}
		if !slices.Equal(heads, test.heads) {
			t.Errorf("%s: got %q, want %q", name, heads, test.heads)
		}
		if test.filter.Limit == 1 && (list.TotalKeys != 3 || list.TotalMessages != 5) {
			t.Errorf("%s: the totals are %d and %d", name, list.TotalKeys, list.TotalMessages)
		}
	}
	k := s.only(InboxFilter{Filter: Filter{MsgID: "a3"}})
	if k.Messages != 1 || k.Source != "shop" || *k.Key != "1" || *k.KeyHex != "31" || k.Attempts != 3 || k.AgeSeconds < 7200 || k.RequestedAt != nil {
		t.Errorf("got %+v", k)
	}
	if k := s.only(InboxFilter{Filter: Filter{Cause: "crash"}}); k.Key != nil || *k.KeyHex != "ff00" {
		t.Errorf("of a key that is no text: %+v", k)
	}
	if k := s.only(InboxFilter{Filter: Filter{Cause: "identity"}}); k.Key != nil || k.KeyHex != nil {
		t.Errorf("of a message without a key: %+v", k)
	}
}

func TestAKeyIsShownWithItsMessagesInOrderAndWhatWasAsked(t *testing.T) {
	s := newStage(t, "show")
	s.parkSome()
	if _, err := NewInbox(s.operator).Retry(t.Context(), InboxFilter{Consumer: "billing"}, "mended"); err != nil {
		t.Fatal(err)
	}
	q, err := NewInbox(s.operator).Show(t.Context(), InboxFilter{Consumer: "billing", Key: []byte("1")}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if q.TotalMessages != 3 || len(q.Messages) != 2 || q.Messages[0].MsgID != "a1" || q.Messages[1].MsgID != "a2" ||
		q.Messages[0].Cause != "permanent" || *q.Messages[0].Error != "no such account: 100% sure" || q.Messages[1].Cause != Behind ||
		q.Messages[1].Error != nil || *q.Messages[0].PayloadBytes != int64(len("payload a1")) || q.Messages[0].Offset != 7 {
		t.Errorf("got %+v", q.Messages)
	}
	if *q.RequestedBy != "ada_show" || *q.Reason != "mended" || len(q.Audit) != 1 || q.Audit[0].Action != "retry" || q.Audit[0].By != "ada_show" {
		t.Errorf("asked for: %+v, audit %+v", q.RequestedBy, q.Audit)
	}
	alone, err := NewInbox(s.operator).Show(t.Context(), InboxFilter{Filter: Filter{MsgID: "c1"}}, 0)
	if err != nil || len(alone.Audit) != 1 || *alone.Audit[0].MsgID != "c1" || alone.Messages[0].PayloadBytes != nil {
		t.Errorf("of a message without a key: %+v, %v", alone, err)
	}
	if _, err := NewInbox(s.operator).Show(t.Context(), InboxFilter{Key: []byte("1")}, 0); err == nil || !strings.Contains(hint.Of(err)[0], ", or --key-id ") {
		t.Errorf("of a key of two consumers: %v with %q", err, hint.Of(err))
	}
	if _, err := NewInbox(s.operator).Show(t.Context(), InboxFilter{KeyID: 4711}, 0); !errors.Is(err, ErrNotThere) || len(hint.Of(err)) != 1 {
		t.Errorf("of a key that is not parked: %v", err)
	}
}

func TestThePayloadOfAMessageIsReadOnDemand(t *testing.T) {
	s := newStage(t, "payload")
	s.parkSome()
	for name, test := range map[string]struct {
		filter InboxFilter
		want   string
	}{
		"first":     {InboxFilter{Consumer: "billing", Key: []byte("1")}, "payload a1"},
		"named":     {InboxFilter{Filter: Filter{MsgID: "a2"}}, "payload a2"},
		"tombstone": {InboxFilter{Filter: Filter{MsgID: "c1"}}, ""},
	} {
		if got, err := NewInbox(s.operator).Payload(t.Context(), test.filter); err != nil || string(got) != test.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := NewInbox(s.operator).Payload(t.Context(), InboxFilter{Filter: Filter{MsgID: "zz"}}); !errors.Is(err, ErrNotThere) {
		t.Errorf("of a message that is not there: %v", err)
	}
}

func TestALoginWithoutTheRoleIsToldWhatItNeeds(t *testing.T) {
	s := newStage(t, "norole")
	s.execute("REVOKE inbox_operator FROM ada_norole")
	if _, err := NewInbox(s.operator).List(t.Context(), InboxFilter{}); err == nil || !strings.Contains(strings.Join(hint.Of(err), " "), "inbox_operator") {
		t.Errorf("got %v with %q", err, hint.Of(err))
	}
	s.execute("GRANT inbox_operator TO ada_norole; DROP TABLE inbox_parked")
	if _, err := NewInbox(s.operator).List(t.Context(), InboxFilter{}); err == nil || !strings.Contains(strings.Join(hint.Of(err), " "), "relay inbox migrate up") {
		t.Errorf("got %v with %q", err, hint.Of(err))
	}
}
