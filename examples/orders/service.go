package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/outbox"
)

// order is what is asked for.
type order struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// event is the payload of OrderPlaced and of OrderCancelled.
type event struct {
	Order    int64     `json:"order"`
	Customer string    `json:"customer"`
	Cents    int64     `json:"cents"`
	At       time.Time `json:"at"`
}

type service struct{ pool *pgxpool.Pool }

func (s service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		var o order
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil || o.Customer == "" || o.Cents <= 0 {
			http.Error(w, `want {"customer": "ada", "cents": 1250}`, http.StatusBadRequest)
			return
		}
		id, err := s.place(r.Context(), o)
		answer(w, http.StatusCreated, id, err)
	})
	mux.HandleFunc("POST /orders/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		answer(w, http.StatusOK, id, s.cancel(r.Context(), id))
	})
	return mux
}

func answer(w http.ResponseWriter, status int, id int64, err error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.Error(w, "no such order, or it is cancelled already", http.StatusConflict)
	case err != nil:
		// A client that asks again places another order: whether this one was committed may be
		// unknown.
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, "{\"order\": %d}\n", id)
	}
}

// place writes the order and its event in one transaction: either both are there or none is.
func (s service) place(ctx context.Context, o order) (id int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		e := event{Customer: o.Customer, Cents: o.Cents}
		err := tx.QueryRow(ctx, "INSERT INTO orders (customer, cents) VALUES ($1, $2) RETURNING id, placed_at", o.Customer, o.Cents).
			Scan(&e.Order, &e.At)
		if err != nil {
			return fmt.Errorf("insert order: %w", err)
		}
		id = e.Order
		return tell(ctx, tx, "OrderPlaced", e)
	})
	return id, err
}

// cancel locks the order by its UPDATE before it writes the event, so that events of one order are
// in the order of its changes.
func (s service) cancel(ctx context.Context, id int64) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		e := event{Order: id}
		err := tx.QueryRow(ctx, "UPDATE orders SET cancelled = true WHERE id = $1 AND NOT cancelled RETURNING customer, cents, placed_at", id).
			Scan(&e.Customer, &e.Cents, &e.At)
		if err != nil {
			return fmt.Errorf("cancel order: %w", err)
		}
		return tell(ctx, tx, "OrderCancelled", e)
	})
}

// tell writes the event to the outbox. The relay publishes it to the topic outbox.event.order under
// the key of the order.
func tell(ctx context.Context, tx pgx.Tx, kind string, e event) error {
	payload, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	_, err = outbox.Insert(ctx, tx, outbox.Message{
		AggregateType: "order", AggregateID: strconv.FormatInt(e.Order, 10), Type: kind, Payload: payload,
	})
	return err
}
