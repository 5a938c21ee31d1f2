package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// The consumer of the demo is a bank: for each message it moves money from one account to another.
const (
	bankName   = "bank" // of the consumer, its group and the schema of its tables
	bankMember = "bank-1"

	// If the parent says what to connect to.
	bankDatabaseVariable = "DEMO_DATABASE_URL"
	bankBrokersVariable  = "DEMO_BROKERS"

	// After a kill, what may have been in flight is begun with care, and what was in flight twice is
	// handled alone: the fewer messages that are, the less time it takes.
	bankWorkers = 4
	bankBatch   = 200
	bankRecords = 2000
)

// bankTables are what the bank has besides its inbox. Nothing in them stops a message from having
// its effect twice: that is the inbox's work, and what it fails to stop must show.
const bankTables = `
CREATE TABLE balances (account text PRIMARY KEY, cents bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE bookings (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    msg_id   uuid   NOT NULL,
    account  text   NOT NULL,
    version  bigint NOT NULL,
    receiver text   NOT NULL,
    cents    bigint NOT NULL
);
`

// openingCents is what every account has at first.
const openingCents = 1_000_000_00

// Bank is the consumer's process of a demo, which the demo starts and kills. It consumes until ctx
// ends.
func Bank(ctx context.Context) error {
	config, err := pgxpool.ParseConfig(os.Getenv(bankDatabaseVariable))
	if err != nil {
		return fmt.Errorf("read %s: %w", bankDatabaseVariable, err)
	}
	config.MaxConns = bankWorkers + 4
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer pool.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	in, err := inbox.New(pool, &inbox.Config{Consumer: bankName, Logger: log})
	if err != nil {
		return err
	}
	consumer, err := inboxkafka.New(in, inboxkafka.HandleBatch(book), &inboxkafka.Config{
		Brokers: strings.Split(os.Getenv(bankBrokersVariable), ","),
		Options: []kgo.Opt{
			// The topic does not exist before the relay has made it.
			kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(time.Second),
			// A partition that was paused is asked for again once the request in flight is answered.
			kgo.FetchMaxWait(50 * time.Millisecond),
		},
		Topics: []string{topic}, Batch: bankBatch, Workers: bankWorkers, MaxRecords: bankRecords,
		CommitInterval: 200 * time.Millisecond, Retention: inboxkafka.KeepForever,
		// A static member that comes back has its partitions at once: no member waits for the session
		// of the killed one to end.
		Instance: bankMember,
		// Here it is the demo that kills the process, and no message's fault.
		CrashLimit: -1,
		Logger:     log,
	})
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}

// book moves the money of all messages, with three statements for all of them together.
func book(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
	n := len(messages)
	ids, accounts, receivers := make([]string, n), make([]string, n), make([]string, n)
	versions, cents := make([]int64, n), make([]int64, n)
	changes := map[string]int64{}
	for i, m := range messages {
		var b body
		if err := json.Unmarshal(m.Payload, &b); err != nil {
			return inbox.Permanent(fmt.Errorf("read message %s: %w", m.ID, err))
		}
		ids[i], accounts[i], receivers[i], versions[i], cents[i] = m.ID, b.Account, b.Receiver, b.Version, b.Cents
		changes[b.Account] -= b.Cents
		changes[b.Receiver] += b.Cents
	}
	touched, by := make([]string, 0, len(changes)), make([]int64, 0, len(changes))
	for account, change := range changes {
		touched, by = append(touched, account), append(by, change)
	}
	statements := &pgx.Batch{}
	statements.Queue(`INSERT INTO bookings (msg_id, account, version, receiver, cents)
		SELECT id::uuid, account, version, receiver, cents
		  FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[]) WITH ORDINALITY
		       AS b (id, account, version, receiver, cents, place)
		 ORDER BY place`, ids, accounts, versions, receivers, cents)
	// All writers lock the accounts in one order, so that there is no deadlock, and last, so that
	// none waits for long.
	statements.Queue("SELECT FROM balances WHERE account = ANY ($1) ORDER BY account FOR UPDATE", touched)
	statements.Queue(`UPDATE balances b SET cents = b.cents + c.cents FROM unnest($1::text[], $2::bigint[]) AS c (account, cents)
		WHERE b.account = c.account`, touched, by)
	if err := tx.SendBatch(ctx, statements).Close(); err != nil {
		return fmt.Errorf("book: %w", err)
	}
	return nil
}

// addBank makes the tables of the bank, in their own schema, and gives every account the same.
func (s *stage) addBank(ctx context.Context, accounts []string) (err error) {
	conn, err := pgx.Connect(ctx, s.bankURL)
	if err != nil {
		return fmt.Errorf("make the bank: %w", err)
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	if _, err := conn.Exec(ctx, bankTables); err != nil {
		return fmt.Errorf("make the bank: %w", err)
	}
	_, err = conn.Exec(ctx, "INSERT INTO balances (account, cents) SELECT unnest($1::text[]), $2", accounts, openingCents)
	if err != nil {
		return fmt.Errorf("make the bank: %w", err)
	}
	return nil
}
