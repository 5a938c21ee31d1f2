package outbox

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/outbox/internal/event"
)

// On a pool or a connection every event would commit by itself, whatever becomes of the business
// rows.
func TestPoolsAndConnectionsAreNoTransactions(t *testing.T) {
	tx := reflect.TypeOf(Insert).In(1)
	for _, other := range []reflect.Type{
		reflect.TypeFor[*pgxpool.Pool](), reflect.TypeFor[*pgxpool.Conn](), reflect.TypeFor[*pgx.Conn](), reflect.TypeFor[*pgconn.PgConn](),
	} {
		if other.AssignableTo(tx) {
			t.Errorf("%v can be passed to Insert", other)
		}
	}
	if !reflect.TypeFor[*pgxpool.Tx]().AssignableTo(tx) {
		t.Error("*pgxpool.Tx cannot be passed to Insert")
	}
}

// recorder is a transaction that must not be used.
type recorder struct {
	pgx.Tx
	t *testing.T
}

func (r recorder) Exec(_ context.Context, sql string, _ ...any) (pgconn.CommandTag, error) {
	r.t.Errorf("sent %s", sql)
	return pgconn.CommandTag{}, nil
}

func TestInvalidMessagesAreAllNamedAndNothingIsSent(t *testing.T) {
	good := Message{AggregateType: "order", AggregateID: "42", Type: "OrderPlaced"}
	ids, err := Insert(t.Context(), recorder{t: t}, good, Message{AggregateType: "order"}, Message{
		AggregateType: "order", AggregateID: "42", Type: "OrderPlaced", Headers: map[string]string{"msg_id": "1"},
	})
	if ids != nil || !errors.Is(err, ErrInvalid) {
		t.Fatalf("Insert gave %v, %v", ids, err)
	}
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("%T is no *InvalidError", err)
	}
	want := []Fault{
		{1, "AggregateID", "is empty"},
		{1, "Type", "is empty"},
		{2, "Headers", `has the name "msg_id", which the relay sets itself`},
	}
	if !reflect.DeepEqual(invalid.Faults, want) {
		t.Errorf("faults %v, want %v", invalid.Faults, want)
	}
	text := "outbox: invalid message: message 1: AggregateID is empty\nmessage 1: Type is empty\n" +
		`message 2: Headers has the name "msg_id", which the relay sets itself`
	if err.Error() != text {
		t.Errorf("the error reads %q", err.Error())
	}
}

func TestInsertOfNothingSendsNothing(t *testing.T) {
	if ids, err := Insert(t.Context(), recorder{t: t}); ids != nil || err != nil {
		t.Errorf("Insert gave %v, %v", ids, err)
	}
}

func TestLockAggregateRefusesAnAggregateWithoutName(t *testing.T) {
	err := LockAggregate(t.Context(), recorder{t: t}, "order", "")
	if !errors.Is(err, ErrInvalid) || err.Error() != "outbox: invalid message: AggregateID is empty" {
		t.Errorf("LockAggregate gave %v", err)
	}
}

func TestNilTransactionIsAnError(t *testing.T) {
	if _, err := Insert(t.Context(), nil, Message{}); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("Insert gave %v", err)
	}
	if err := LockAggregate(t.Context(), nil, "order", "42"); err == nil {
		t.Error("LockAggregate gave no error")
	}
}

func TestNewReportsEveryFaultOfAConfig(t *testing.T) {
	_, err := New(&Config{Table: "a.b.c", MaxBytes: -1, Route: "a b"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Table", "MaxBytes", "Route"} {
		if !strings.Contains(err.Error(), "outbox: "+field+": ") {
			t.Errorf("%s is missing in: %v", field, err)
		}
	}
}

func TestNewDoesNotChangeItsConfig(t *testing.T) {
	var c Config
	if _, err := New(&c); err != nil || c != (Config{}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWriterHoldsItsOwnLimitAndRoute(t *testing.T) {
	w, err := New(&Config{MaxBytes: 20, Route: "events"})
	if err != nil {
		t.Fatal(err)
	}
	m := Message{AggregateType: "Order Line", AggregateID: "42", Type: "Placed", Payload: []byte("12345")}
	_, err = w.Insert(t.Context(), recorder{t: t}, m)
	var invalid *InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != 1 || invalid.Faults[0].Field != "Size" {
		t.Errorf("got %v", err)
	}
}

// The conversion between the two needs the fields of both to be the same; this fails to compile
// where they are not.
var _ = Message(event.Message{})
