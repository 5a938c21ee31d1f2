package outboxsql

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/outbox"
)

func TestErrorsAreThoseOfPackageOutbox(t *testing.T) {
	tx := new(sql.Tx) // never used: the faults are found before
	_, err := Insert(t.Context(), tx, outbox.Message{AggregateType: "order", AggregateID: "42"})
	var invalid *outbox.InvalidError
	if !errors.Is(err, outbox.ErrInvalid) || !errors.As(err, &invalid) {
		t.Fatalf("Insert gave %v", err)
	}
	if want := (outbox.Fault{Message: 0, Field: "Type", Reason: "is empty"}); len(invalid.Faults) != 1 || invalid.Faults[0] != want {
		t.Errorf("faults %v", invalid.Faults)
	}
	if err := LockAggregate(t.Context(), tx, "", "42"); !errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("LockAggregate gave %v", err)
	}
}

func TestNothingAndNilAreNoRoundTrip(t *testing.T) {
	if ids, err := Insert(t.Context(), new(sql.Tx)); ids != nil || err != nil {
		t.Errorf("Insert of nothing gave %v, %v", ids, err)
	}
	if _, err := Insert(t.Context(), nil, outbox.Message{}); err == nil || errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("Insert in no transaction gave %v", err)
	}
	if err := LockAggregate(t.Context(), nil, "order", "42"); err == nil {
		t.Error("LockAggregate in no transaction gave no error")
	}
}

func TestNewReportsEveryFaultOfAConfig(t *testing.T) {
	if _, err := New(&outbox.Config{Table: "a.b.c"}); err == nil {
		t.Error("no error")
	}
}
