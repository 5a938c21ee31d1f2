package inbox

import (
	"errors"
	"sync/atomic"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/tables"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Inbox gives each message its effect once. TTx is the transaction that handlers get: pgx.Tx from
// New, *sql.Tx from inboxsql.New. Its methods may be called from many goroutines.
type Inbox[TTx any] struct {
	cfg    Config
	ledger *ledger.Ledger[TTx]

	// seenUntil is until when batches are marked with ON CONFLICT, in nanoseconds since 1970.
	seenUntil atomic.Int64
}

// NewWithDriver is New for transactions of any type: with a driver of your own.
func NewWithDriver[TTx any](driver inboxdriver.Driver[TTx], config *Config) (*Inbox[TTx], error) {
	if config == nil {
		config = &Config{}
	}
	cfg := config.WithDefaults()
	var missing error
	if driver == nil {
		missing = errors.New("inbox: the pool, or the database, is nil")
	}
	if err := errors.Join(missing, cfg.validate()); err != nil {
		return nil, err
	}
	session := cfg.Instance
	if config.Instance != "" {
		session += "/" + randomPart()
	}
	runner := transact.NewRunner(driver, tables.New(cfg.Schema), transact.Options{
		HandlerTimeout: cfg.HandlerTimeout, Reruns: cfg.Reruns,
		Panicked: func(value any, stack []byte) error { return &PanicError{Value: value, Stack: stack} },
	})
	return &Inbox[TTx]{cfg: cfg, ledger: ledger.New(runner, ledger.Options{
		Consumer: cfg.Consumer, Instance: cfg.Instance, Session: session, ErrorText: errorText, Logger: cfg.Logger,
	})}, nil
}

// Consumer returns the name under which messages are marked.
func (i *Inbox[TTx]) Consumer() string { return i.cfg.Consumer }

// Instance returns who this process is.
func (i *Inbox[TTx]) Instance() string { return i.cfg.Instance }

// Package inboxloop works on the ledger of an inbox, and services do not: so it is not a method
// that they see.
func init() {
	ledger.Register(func(in any) any { return in.(interface{ ledgerOf() any }).ledgerOf() })
}

func (i *Inbox[TTx]) ledgerOf() any { return i.ledger }
