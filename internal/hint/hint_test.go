package hint_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/outbox-relay/relay/internal/hint"
)

func TestHintsAreFoundHoweverDeepTheyLie(t *testing.T) {
	inner := hint.New("table is missing", "relay migrate up")
	other := hint.Wrap(errors.New("no broker"), "start a broker on %s", "kafka:9092")
	err := fmt.Errorf("start: %w", errors.Join(fmt.Errorf("postgres: %w", inner), other, inner))

	want := []string{"relay migrate up", "start a broker on kafka:9092"}
	if got := hint.Of(err); !slices.Equal(got, want) {
		t.Errorf("hints are %q, want %q", got, want)
	}
}

func TestAHintLeavesTheErrorAsItIs(t *testing.T) {
	cause := errors.New("cause")
	err := hint.Wrap(cause, "do this")
	if err.Error() != "cause" || !errors.Is(err, cause) {
		t.Errorf("got %q, which does not read or compare as its cause", err)
	}
	if hint.Wrap(nil, "do this") != nil {
		t.Error("a hint turned nil into an error")
	}
	if hints := hint.Of(cause); hints != nil {
		t.Errorf("an error without a hint has the hints %q", hints)
	}
}
