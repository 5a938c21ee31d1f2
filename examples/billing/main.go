package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

//go:embed billing.sql
var tables string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "billing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("BILLING_DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("read BILLING_DATABASE_URL: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, tables); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing", Logger: log})
	if err != nil {
		return err
	}
	consumer, err := inboxkafka.New(in, inboxkafka.Handle(handle), &inboxkafka.Config{
		Brokers: strings.Split(os.Getenv("BILLING_BROKERS"), ","),
		Topics:  []string{cmp.Or(os.Getenv("BILLING_TOPIC"), "outbox.event.order")},
		// With a name here, a process that is started again within the session timeout has
		// its partitions back at once.
		Instance: os.Getenv("BILLING_INSTANCE"),
		Logger:   log,
	})
	if err != nil {
		return err
	}
	fmt.Println("billing: waits for orders")
	// Returns once ctx has ended and what was in flight is done.
	return consumer.Run(ctx)
}
