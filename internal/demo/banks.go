package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/child"
)

// How the consumer is killed.
const (
	fewestBankKills   = 3
	mostBankKills     = 8
	messagesABankKill = 400_000
	earlyBankKillBy   = 300 * time.Millisecond // after the start of one that is killed while it starts
	lookEvery         = 10 * time.Millisecond  // at what the consumer has done
)

// bankKills is how often the consumer is killed while it handles that many messages, besides the
// one kill that hits it as it starts.
func bankKills(messages int) int {
	return min(mostBankKills, fewestBankKills+messages/messagesABankKill)
}

// banks runs one process of the consumer after another.
type banks struct {
	command     []string
	environ     []string
	databaseURL string
	messages    int
	events      func(string)

	killed atomic.Int64
	booked atomic.Int64 // what the bank has done so far, as far as it has been looked at; about, where transactions were rolled back
}

func bankSettings(environ []string, databaseURL string, brokers []string) []string {
	return append(child.Environ(environ), bankDatabaseVariable+"="+databaseURL, bankBrokersVariable+"="+strings.Join(brokers, ","))
}

// look follows what the bank does, until ctx ends.
func (b *banks) look(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, b.databaseURL)
	if err != nil {
		return unlessOver(ctx, fmt.Errorf("watch the consumer: %w", err))
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var booked int64
		if err := conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM bookings").Scan(&booked); err != nil {
			return unlessOver(ctx, fmt.Errorf("watch the consumer: %w", err))
		}
		b.booked.Store(booked)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// run kills the consumer count times while it handles messages, and once while it starts, and
// returns the last one, which is left alone.
func (b *banks) run(ctx context.Context, count int) (*running, error) {
	c, err := b.start()
	if err != nil {
		return nil, err
	}
	for i := range count {
		share := b.messages / (count + 1)
		if err := b.await(ctx, c, i*share+1+rand.IntN(max(share, 1))); err != nil {
			return nil, errors.Join(err, c.Kill())
		}
		if c, err = b.replaceAfter(ctx, c, rand.N(lateKillBy)); err != nil {
			return nil, err
		}
		// A process that is killed while it begins messages with care leaves the most work behind:
		// once, and at the end.
		if i == count-1 {
			if c, err = b.replaceAfter(ctx, c, rand.N(earlyBankKillBy)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (b *banks) start() (*running, error) {
	return run("consumer", b.command, b.environ, int(b.booked.Load()))
}

// await waits until the consumer has done about so much.
func (b *banks) await(ctx context.Context, c *running, booked int) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for int(b.booked.Load()) < booked {
		select {
		case <-tick.C:
		case <-c.Done():
			return c.EndedByItself()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// replaceAfter kills c after a while, and starts a successor.
func (b *banks) replaceAfter(ctx context.Context, c *running, d time.Duration) (*running, error) {
	if err := c.Live(ctx, d); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	if err := c.Crash(); err != nil {
		return nil, err
	}
	number, booked := b.killed.Add(1), int(b.booked.Load())
	when := "soon after its start"
	if booked > c.found {
		when = "while it booked"
	}
	successor, err := b.start()
	if err != nil {
		return nil, err
	}
	b.events(fmt.Sprintf("consumer kill %d: consumer %d ended by SIGKILL %s, %s messages booked; consumer %d takes over",
		number, c.ID(), when, grouped(booked), successor.ID()))
	return successor, nil
}

// awaitEnds waits until the group of the consumer has committed offsets up to the ends of the
// partitions.
func (b *banks) awaitEnds(ctx context.Context, brokers []string, c *running, ends map[int32]int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("demo-offsets"))
	if err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		offsets, err := admin.FetchOffsets(ctx, bankName)
		if err != nil {
			return fmt.Errorf("ask for the offsets of the consumer: %w", err)
		}
		behind := false
		for partition, end := range ends {
			committed, _ := offsets.Lookup(topic, partition)
			behind = behind || committed.At < end
		}
		if !behind {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.Done():
			return c.EndedByItself()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
