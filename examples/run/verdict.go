package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// verdict is what both databases say at the end. Servers of yours may hold orders of earlier runs;
// they count too.
type verdict struct {
	placed, cancelled   int64 // orders, by the database of orders
	turnover            int64 // cents of those that are not cancelled
	invoices, retracted int64 // by the database of billing
	shop, sum           int64 // cents on the shop's account, and on all accounts together
	marks, followUps    int64 // messages handled and events written by billing, as far as they are retained
}

// patience is how long nothing may happen before the run gives up.
const patience = time.Minute

// awaitInvoice waits until billing has handled a message since the last call: it is at work.
func awaitInvoice(ctx context.Context, s *site) error {
	return poll(ctx, func() (int64, bool, error) {
		n, err := query(ctx, s.billing, "SELECT count(*) FROM inbox WHERE consumer = 'billing'")
		if err != nil || n <= s.seen {
			return n, false, err
		}
		s.seen = n
		return n, true, nil
	})
}

// await waits until billing has an invoice for each order and has retracted those of cancelled
// ones.
func await(ctx context.Context, s *site) (v *verdict, err error) {
	err = poll(ctx, func() (int64, bool, error) {
		if v, err = look(ctx, s); err != nil {
			return 0, false, err
		}
		done := v.invoices + v.retracted
		return done, done >= v.placed+v.cancelled, nil
	})
	return v, err
}

// poll asks until it is done. Without any progress it gives up after a while.
func poll(ctx context.Context, ask func() (progress int64, done bool, err error)) error {
	before, since := int64(-1), time.Now()
	for {
		progress, done, err := ask()
		if err != nil || done {
			return err
		}
		if progress > before {
			before, since = progress, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("billing has handled %d messages, and no more for %v", progress, patience)
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func look(ctx context.Context, s *site) (*verdict, error) {
	v := &verdict{}
	for _, q := range []struct {
		into        *int64
		databaseURL string
		sql         string
	}{
		{&v.placed, s.orders, "SELECT count(*) FROM orders"},
		{&v.cancelled, s.orders, "SELECT count(*) FROM orders WHERE cancelled"},
		{&v.turnover, s.orders, "SELECT coalesce(sum(cents), 0)::bigint FROM orders WHERE NOT cancelled"},
		{&v.invoices, s.billing, "SELECT count(*) FROM invoices"},
		{&v.retracted, s.billing, "SELECT count(*) FROM invoices WHERE cancelled"},
		{&v.shop, s.billing, "SELECT coalesce(sum(cents), 0)::bigint FROM accounts WHERE name = 'shop'"},
		{&v.sum, s.billing, "SELECT coalesce(sum(cents), 0)::bigint FROM accounts"},
		{&v.marks, s.billing, "SELECT count(*) FROM inbox WHERE consumer = 'billing'"},
		{&v.followUps, s.billing, "SELECT count(*) FROM outbox"},
	} {
		n, err := query(ctx, q.databaseURL, q.sql)
		if err != nil {
			return nil, err
		}
		*q.into = n
	}
	return v, nil
}

// String explains it to a person.
func (v *verdict) String() string {
	money := func(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, max(cents, -cents)%100) }
	return fmt.Sprintf(`  orders:   %d placed, %d of them cancelled
  billing:  %d invoices, %d of them cancelled; %d messages handled, %d follow-up events
  turnover of the orders that stand:  %s
  balance of the shop:                %s
  sum of all accounts:                %s

`, v.placed, v.cancelled, v.invoices, v.retracted, v.marks, v.followUps, money(v.turnover), money(v.shop), money(v.sum))
}

// check compares the two databases. A message that was lost or had its effect twice would show in
// the shop's balance.
func (v *verdict) check() error {
	var faults []error
	differ := func(what string, got, want int64) {
		if got != want {
			faults = append(faults, fmt.Errorf("%s: %d, want %d", what, got, want))
		}
	}
	differ("invoices", v.invoices, v.placed)
	differ("cancelled invoices", v.retracted, v.cancelled)
	differ("balance of the shop in cents", v.shop, v.turnover)
	differ("sum of all accounts in cents", v.sum, 0)
	return errors.Join(faults...)
}
