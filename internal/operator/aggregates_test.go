package operator

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/internal/hint"
)

// chosen lists what a filter chooses, as lane/id:rows.
func chosen(list Aggregates) string {
	var all []string
	for _, a := range list.Aggregates {
		all = append(all, fmt.Sprintf("%s/%s:%d", a.Lane, a.AggregateID, a.Rows))
	}
	return strings.Join(all, " ")
}

func TestEveryFilterChoosesByTheFirstRow(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	tests := map[string]struct {
		filter OutboxFilter
		want   string
		totals string
	}{
		"everything":          {OutboxFilter{}, "billing/3:1 outbox/2:1 outbox/1:3", "3 5"},
		"a lane":              {OutboxFilter{Lane: "outbox"}, "outbox/2:1 outbox/1:3", "2 4"},
		"an aggregate":        {OutboxFilter{AggregateType: "order", AggregateID: "1"}, "outbox/1:3", "1 3"},
		"another type":        {OutboxFilter{AggregateType: "invoice"}, "", "0 0"},
		"one on its way out":  {OutboxFilter{AggregateID: "4"}, "", "0 0"},
		"a cause":             {OutboxFilter{Filter: Filter{Cause: Refused}}, "billing/3:1 outbox/1:3", "2 4"},
		"a cause further in":  {OutboxFilter{Filter: Filter{Cause: Behind}}, "", "0 0"},
		"an error, any case":  {OutboxFilter{Filter: Filter{Error: "too_LARGE"}}, "outbox/1:3", "1 3"},
		"no pattern":          {OutboxFilter{Filter: Filter{Error: "%"}}, "outbox/1:3", "1 3"},
		"for an hour":         {OutboxFilter{Filter: Filter{OlderThan: time.Hour}}, "outbox/1:3", "1 3"},
		"one event":           {OutboxFilter{Filter: Filter{MsgID: theEvent}}, "outbox/1:1", "1 1"},
		"a limit":             {OutboxFilter{Lane: "outbox", Filter: Filter{Limit: 1}}, "outbox/2:1", "2 4"},
		"all conditions hold": {OutboxFilter{Lane: "outbox", Filter: Filter{Cause: Refused, Error: "away"}}, "", "0 0"},
	}
	for name, test := range tests {
		list, err := NewOutbox(conn).List(t.Context(), test.filter)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := chosen(list); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if got := fmt.Sprint(list.TotalAggregates, " ", list.TotalRows); got != test.totals {
			t.Errorf("%s: the totals are %s, want %s", name, got, test.totals)
		}
	}
}

func TestAnAggregateIsToldByItsFirstRow(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	execute(t, conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason, done_seq)
		VALUES ('outbox', 'retry', 'order', '1', 'done', 7), ('outbox', 'discard', 'order', '1', 'open', NULL),
		       ('outbox', 'retry', 'order', '1', 'open too', NULL), ('billing', 'retry', 'order', '1', 'of another lane', NULL)`)
	list, err := NewOutbox(conn).List(t.Context(), OutboxFilter{AggregateID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	a := list.Aggregates[0]
	if a.ID != 11 || a.Cause != Refused || !strings.Contains(*a.Error, "100%") || a.Attempts != 1 ||
		a.AgeSeconds < 7200 || a.AgeSeconds > 7300 || time.Since(a.Since) < 2*time.Hour {
		t.Errorf("got %+v", a)
	}
	if a.Request == nil || *a.Request != 2 || *a.Action != "discard" {
		t.Errorf("the open request is %v %v", a.Request, a.Action)
	}
}

func TestALaneThatDoesNotExistIsAnError(t *testing.T) {
	_, conn := database(t)
	_, err := NewOutbox(conn).List(t.Context(), OutboxFilter{Lane: "outbix"})
	if err == nil || !strings.Contains(strings.Join(hint.Of(err), ""), "billing, outbox") {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
	if _, err := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{Lane: "outbix"}, "why"); err == nil {
		t.Error("a request about it is no error")
	}
}

func TestMissingTablesOfTheOutboxAreExplained(t *testing.T) {
	_, conn := database(t)
	execute(t, conn, "DROP TABLE outbox_parked, outbox_parked_audit")
	_, read := NewOutbox(conn).List(t.Context(), OutboxFilter{})
	_, show := NewOutbox(conn).Show(t.Context(), order("", "1"), 0)
	_, payload := NewOutbox(conn).Payload(t.Context(), order("", "1"))
	_, ask := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{}, "why")
	for i, err := range []error{read, show, payload, ask} {
		if err == nil || !strings.Contains(strings.Join(hint.Of(err), ""), "relay migrate up") {
			t.Errorf("%d: %v with hints %q", i, err, hint.Of(err))
		}
	}
}

func TestTheQueueIsShownInItsOrder(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	execute(t, conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, reason, done_seq, done_at, events, outcome)
		VALUES ('outbox', 'retry', 'order', '1', NULL, 'first', 7, now(), 0, 'refused again'),
		       ('outbox', 'discard', 'order', '1', '`+theEvent+`', 'second', NULL, NULL, 0, NULL)`)
	q, err := NewOutbox(conn).Show(t.Context(), order("", "1"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if q.Lane != "outbox" || q.TotalRows != 3 || len(q.Rows) != 2 || q.Rows[0].ID != 11 || q.Rows[1].ID != 5 ||
		*q.Rows[0].PayloadBytes != int64(len("payload 11")) || q.Rows[1].MsgID != uuid.MustParse(theEvent) || q.Rows[1].Error != nil {
		t.Errorf("got %+v", q)
	}
	if len(q.Requests) != 2 || q.Requests[0].Reason != "second" || q.Requests[0].DoneAt != nil || q.Requests[0].MsgID == nil ||
		q.Requests[1].DoneAt == nil || *q.Requests[1].Outcome != "refused again" || q.Requests[1].RequestedBy != "postgres" {
		t.Errorf("the requests are %+v", q.Requests)
	}
	if q, err := NewOutbox(conn).Show(t.Context(), order("outbox", "4"), 0); err != nil || q.TotalRows != 0 || q.Leaving != 1 || len(q.Rows) != 0 {
		t.Errorf("of rows on their way out: %+v, %v", q, err)
	}
	if _, err := NewOutbox(conn).Show(t.Context(), order("", "17"), 0); !errors.Is(err, ErrNotThere) || len(hint.Of(err)) != 1 {
		t.Errorf("of one that is not parked: %v", err)
	}
	park(t, conn, row{id: 20, key: "1", cause: Refused, lane: "billing"})
	if _, err := NewOutbox(conn).Show(t.Context(), order("", "1"), 0); err == nil || !strings.Contains(hint.Of(err)[0], "billing, outbox") {
		t.Errorf("of one in two lanes: %v", err)
	}
}

func TestThePayloadOfARowIsReadOnDemand(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	execute(t, conn, "UPDATE outbox_parked SET payload = NULL WHERE id = 13")
	id, other := uuid.MustParse(theEvent), uuid.New()
	if got, err := NewOutbox(conn).Payload(t.Context(), order("", "1")); err != nil || string(got) != "payload 11" {
		t.Errorf("of the first row: %q, %v", got, err)
	}
	if got, err := NewOutbox(conn).Payload(t.Context(), event(order("outbox", "1"), id)); err != nil || string(got) != "payload 5" {
		t.Errorf("of a named row: %q, %v", got, err)
	}
	if got, err := NewOutbox(conn).Payload(t.Context(), order("", "2")); err != nil || got != nil {
		t.Errorf("of a row without one: %q, %v", got, err)
	}
	if _, err := NewOutbox(conn).Payload(t.Context(), event(order("", "1"), other)); !errors.Is(err, ErrNotThere) {
		t.Errorf("of a row that is not there: %v", err)
	}
}
