package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox/internal/tables"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Ledger is what one inbox writes of its messages, and how.
type Ledger[TTx any] struct {
	*transact.Runner[TTx]
	Options

	mu sync.Mutex
	// started are the messages whose row in inbox_started this process wrote and has not removed.
	started map[Identity]bool
}

// Options say who writes.
type Options struct {
	// Consumer, Instance and Session are the names under which marks, claims and sessions are
	// written. Session is the instance with a random part: one that is named by its host has the same
	// name after a crash.
	Consumer, Instance, Session string

	// ErrorText is what is kept of an error, as a value of a column.
	ErrorText func(error) any

	Logger *slog.Logger
}

// New returns a Ledger.
func New[TTx any](runner *transact.Runner[TTx], options Options) *Ledger[TTx] {
	return &Ledger[TTx]{Runner: runner, Options: options, started: map[Identity]bool{}}
}

// registered returns the *Ledger[TTx] of an *inbox.Inbox[TTx].
var registered func(in any) any

// Register is called by package inbox before main begins, with what From asks.
func Register(of func(in any) any) { registered = of }

// From returns the ledger of an *inbox.Inbox[TTx]. It is how package inboxloop gets at it: package
// inbox cannot import that package, and a method would be seen by every service.
func From[TTx any](in any) *Ledger[TTx] { return registered(in).(*Ledger[TTx]) }

// Identity is what a message is marked by.
type Identity struct {
	Source string
	Mark   uuid.UUID
}

// Identify returns the identity of a message, by its source and the id that its sender gave it.
func Identify(source, id string) Identity { return Identity{source, tables.MarkID(id)} }

// Subject is what the audit says of a message.
type Subject struct {
	Identity
	ID, Topic, Type string
	Key             []byte
	Partition       int32
	Offset          int64
}

// ErrInvalid is inbox.ErrInvalid.
var ErrInvalid = errors.New("inbox: invalid message")

// mostID bounds the bytes of a message's id, which is kept with a parked message.
const mostID = 1024

// Check returns ErrInvalid with every fault of a message that could have no mark.
func Check(id, source, topic, kind string) error {
	var faults []error
	switch {
	case id == "":
		faults = append(faults, errors.New("ID is empty"))
	case len(id) > mostID:
		faults = append(faults, fmt.Errorf("ID has %d bytes; at most %d are allowed", len(id), mostID))
	default:
		faults = append(faults, textFault("ID", id))
	}
	if reason := tables.CheckName(source); reason != "" {
		faults = append(faults, errors.New("Source "+reason))
	}
	faults = append(faults, textFault("Topic", topic), textFault("Type", kind))
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func textFault(field, text string) error {
	if reason := tables.CheckText(text); reason != "" {
		return fmt.Errorf("%s %s", field, reason)
	}
	return nil
}
