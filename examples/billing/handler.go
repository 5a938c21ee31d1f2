package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/outbox"
)

// shop is the account that customers pay into.
const shop = "shop"

// order is the payload of the events of orders.
type order struct {
	Order    int64  `json:"order"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// handle is called once for each message that was not handled before. It changes nothing but the
// database, through tx. The events of one order come in their order: a cancellation finds its
// invoice.
func handle(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
	var o order
	if err := json.Unmarshal(m.Payload, &o); err != nil {
		// No retry fixes this: the message is parked, with all later ones of this order, and all
		// other orders go on.
		return inbox.Permanent(fmt.Errorf("read the order: %w", err))
	}
	switch m.Type {
	case "OrderPlaced":
		return issue(ctx, tx, m, o)
	case "OrderCancelled":
		return cancel(ctx, tx, m, o)
	}
	return nil // an event that does not concern billing
}

func issue(ctx context.Context, tx pgx.Tx, m inbox.Message, o order) error {
	_, err := tx.Exec(ctx, "INSERT INTO invoices (order_id, customer, cents) VALUES ($1, $2, $3)", o.Order, o.Customer, o.Cents)
	if err != nil {
		return fmt.Errorf("write the invoice: %w", err)
	}
	if err := pay(ctx, tx, o.Customer, o.Cents); err != nil {
		return err
	}
	return tell(ctx, tx, m, "InvoiceIssued", o)
}

func cancel(ctx context.Context, tx pgx.Tx, m inbox.Message, o order) error {
	err := tx.QueryRow(ctx, "UPDATE invoices SET cancelled = true WHERE order_id = $1 RETURNING customer, cents", o.Order).
		Scan(&o.Customer, &o.Cents)
	if err != nil {
		return fmt.Errorf("cancel the invoice: %w", err)
	}
	if err := pay(ctx, tx, o.Customer, -o.Cents); err != nil {
		return err
	}
	return tell(ctx, tx, m, "InvoiceCancelled", o)
}

// pay moves money from the customer to the shop. It locks the customer's account first, as
// every handler does, so there are no deadlocks.
func pay(ctx context.Context, tx pgx.Tx, customer string, cents int64) error {
	for _, booking := range []struct {
		account string
		cents   int64
	}{{"customer " + customer, -cents}, {shop, cents}} {
		_, err := tx.Exec(ctx, `INSERT INTO accounts (name, cents) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET cents = accounts.cents + excluded.cents`, booking.account, booking.cents)
		if err != nil {
			return fmt.Errorf("book on %s: %w", booking.account, err)
		}
	}
	return nil
}

// tell writes the follow-up event to billing's own outbox: it is published if and only if the
// invoice is committed. Follow adds which message caused it, and its trace.
func tell(ctx context.Context, tx pgx.Tx, m inbox.Message, kind string, o order) error {
	payload, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	_, err = outbox.Insert(ctx, tx, m.Follow(outbox.Message{
		AggregateType: "invoice", AggregateID: strconv.FormatInt(o.Order, 10), Type: kind, Payload: payload,
	}))
	return err
}
