package relay

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/internal/recovery"
)

// Recovery settles a contradiction that has halted a lane, by a choice that a person has made.
type Recovery struct{ lane *recovery.Recovery }

// The errors of NewRecovery, CheckPlace, Inspect and Apply that are not failures of a server;
// errors.Is finds them.
var (
	// ErrNoLane is returned by NewRecovery if the Config has no lane of that name.
	ErrNoLane = recovery.ErrNoLane
	// ErrAgree is returned by Apply if Postgres and Kafka agree, so there is nothing to settle.
	ErrAgree = recovery.ErrAgree
	// ErrClosed is returned by Apply if the choice would break a guarantee; the error says which.
	ErrClosed = recovery.ErrClosed
	// ErrBusy is returned by Apply if a relay that has not halted runs the lane.
	ErrBusy = recovery.ErrBusy
	// ErrPlace is returned by CheckPlace, Inspect and Apply if ChooseRestartFrom cannot start at
	// that place.
	ErrPlace = recovery.ErrPlace
)

// NewRecovery returns the Recovery of one lane of the Config. It connects to nothing. Give it the
// Config of the relay.
func NewRecovery(config *Config, lane string) (*Recovery, error) {
	options, err := config.forRecovery(lane)
	if err != nil {
		return nil, err
	}
	r, err := recovery.New(options)
	if err != nil {
		return nil, err
	}
	return &Recovery{r}, nil
}

// Choice is a way to settle a contradiction.
type Choice string

// The choices.
const (
	// ChooseKafka goes on after the last batch in Kafka.
	ChooseKafka Choice = Choice(recovery.ChooseKafka)
	// ChoosePostgres goes on after the last batch that Postgres knows to be committed.
	ChoosePostgres Choice = Choice(recovery.ChoosePostgres)
	// ChooseRestartFrom publishes every row that is still in the table, from a place on.
	ChooseRestartFrom Choice = Choice(recovery.ChooseRestartFrom)
	// ChooseSkipToNow takes every row that is in the table for published.
	ChooseSkipToNow Choice = Choice(recovery.ChooseSkipToNow)
)

// Choices lists every Choice.
func Choices() []Choice {
	return []Choice{ChooseKafka, ChoosePostgres, ChooseRestartFrom, ChooseSkipToNow}
}

// CheckPlace reports whether ChooseRestartFrom can read a place: an id, a time as RFC 3339, or
// "beginning". The error wraps ErrPlace.
func CheckPlace(from string) error {
	_, _, err := recovery.ParsePlace(from)
	return err
}

// Look says what Inspect looks at.
type Look struct {
	// From is where ChooseRestartFrom starts: an id, a time as RFC 3339, or "beginning". Defaults
	// to "beginning".
	From string
	// Scan reads the data topics back to the oldest row in doubt, and counts by what is in them.
	// This may take minutes. Defaults to false: rows are counted by what the two logs say.
	Scan bool
	// Only leaves all other choices out of Findings.Choices. Defaults to "": all that are open.
	Only Choice
}

// Findings is what Postgres and Kafka say about a lane, and the choices. As JSON it has every
// detail, as docs/recovery.md describes it; String returns them for people.
type Findings struct {
	// Lane is the name of the lane, Table its outbox table.
	Lane, Table string
	// Cause is the kind of the contradiction; empty if the logs agree. Diagnosis says what
	// contradicts what, Try what to do.
	Cause          Cause
	Diagnosis, Try string
	// Choices are those that are open; none if the logs agree.
	Choices []Option
	// Closed are the others, with the reasons.
	Closed []ClosedOption

	found *recovery.Findings
}

// Recoverable reports whether there is a contradiction that a Choice settles. If there is another
// one, Try says how.
func (f *Findings) Recoverable() bool { return f.found.Recoverable() }

// MarshalJSON returns all that was found.
func (f *Findings) MarshalJSON() ([]byte, error) { return json.Marshal(f.found) }

// String returns all that was found as text of several lines, for people.
func (f *Findings) String() string { return f.found.String() }

// Option is an open choice, and what it would do to the rows that are in the table now.
type Option struct {
	Choice Choice
	// From is the place that ChooseRestartFrom starts at, as it was given.
	From string
	// Meaning says in a sentence what the choice does, Caution when it would be wrong; Caution may
	// be empty.
	Meaning, Caution string
	// New rows would be published, and are not known to be published already.
	New Rows
	// Again rows would be published again.
	Again Rows
	// Skipped rows would never be published, and are not known to be published already.
	Skipped Rows
}

// ClosedOption is a choice that would break a guarantee, and the reason.
type ClosedOption struct {
	Choice Choice
	Reason string
}

// Rows is a set of rows of the outbox.
type Rows struct {
	// Count is how many there are.
	Count int64
	// First and Last have the least and the greatest id; nil if there is no row.
	First, Last *Row
}

// Row is one row of the outbox.
type Row struct {
	ID        int64
	MsgID     uuid.UUID
	CreatedAt time.Time
}

// Inspect reads Postgres and Kafka and works out the choices. It changes nothing.
func (r *Recovery) Inspect(ctx context.Context, look Look) (*Findings, error) {
	found, err := r.lane.Inspect(ctx, recovery.Look{From: look.From, Scan: look.Scan})
	if err != nil {
		return nil, err
	}
	if look.Only != "" {
		found.Keep(recovery.Choice(look.Only))
	}
	return findings(found), nil
}

// Decision is the choice of a person.
type Decision struct {
	// Choice must be open.
	Choice Choice
	// From is where ChooseRestartFrom starts, as in Look.
	From string
	// Who names the person, Why the reason. Both are recorded in relay_recoveries and in Kafka.
	Who, Why string
}

// Outcome is what Apply has done. As JSON it has every detail; String returns them for people.
type Outcome struct {
	// Lane is the name of the lane, which goes on after batch Seq.
	Lane string
	Seq  int64
	// Chosen is what was done, counted just before.
	Chosen Option
	// Evicted is whether the session of a halted relay was ended for it. That relay takes the lane
	// over by itself.
	Evicted bool

	done *recovery.Outcome
}

// MarshalJSON returns all that was done.
func (o *Outcome) MarshalJSON() ([]byte, error) { return json.Marshal(o.done) }

// String returns all that was done as text of several lines, for people.
func (o *Outcome) String() string { return o.done.String() }

// Apply inspects the lane again and applies the choice, if it is open. A relay that has halted need
// not be stopped. If Apply is interrupted, the lane halts with UnfinishedRecovery until it is
// applied again.
func (r *Recovery) Apply(ctx context.Context, decision Decision) (*Outcome, error) {
	done, err := r.lane.Apply(ctx, recovery.Decision{
		Choice: recovery.Choice(decision.Choice), From: decision.From, Who: decision.Who, Why: decision.Why,
	})
	if err != nil {
		return nil, err
	}
	return &Outcome{
		Lane: done.Checkpoint.Lane, Seq: done.Checkpoint.Seq, Chosen: option(done.Chosen),
		Evicted: done.Evicted, done: done,
	}, nil
}
