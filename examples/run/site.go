package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/sandbox"
)

// site is the servers that the services run on: each service has its own database.
type site struct {
	postgres *sandbox.Postgres // nil if one was named
	broker   *sandbox.Broker
	orders   string // connection strings of the two databases
	billing  string
	brokers  string
	seen     int64 // messages that billing had handled when it was looked at last
}

// The names of the databases, and so of the relays: the header source of their records.
const (
	ordersDatabase  = "example_orders"
	billingDatabase = "example_billing"
)

func openSite(ctx context.Context, databaseURL, brokers string) (_ *site, err error) {
	s := &site{brokers: brokers}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if brokers == "" {
		if s.broker, err = sandbox.StartBroker(ctx, sandbox.BrokerOptions{}); err != nil {
			return nil, err
		}
		s.brokers = strings.Join(s.broker.Addresses, ",")
	}
	if databaseURL == "" {
		fmt.Println("run: starts a throw-away Postgres")
		s.postgres, err = sandbox.StartPostgres(ctx, sandbox.PostgresOptions{Notice: func(line string) { fmt.Println("run:", line) }})
		if err != nil {
			return nil, err
		}
		databaseURL = s.postgres.URL
	}
	if s.orders, err = makeDatabase(ctx, databaseURL, ordersDatabase); err != nil {
		return nil, err
	}
	s.billing, err = makeDatabase(ctx, databaseURL, billingDatabase)
	return s, err
}

// makeDatabase makes the database unless it is there, and returns its connection string.
func makeDatabase(ctx context.Context, server, name string) (_ string, err error) {
	address, err := url.Parse(server)
	if err != nil || !strings.HasPrefix(address.Scheme, "postgres") {
		return "", fmt.Errorf("--database-url: want postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
		return "", fmt.Errorf("look for database %s: %w", name, err)
	}
	if !there {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
			return "", fmt.Errorf("create database %s: %w", name, err)
		}
	}
	address.Path = "/" + name
	return address.String(), nil
}

// query asks for one number.
func query(ctx context.Context, databaseURL, sql string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		return 0, fmt.Errorf("query %q: %w", sql, err)
	}
	return n, nil
}

// pollEvery is the time between two looks at what others do.
const pollEvery = 50 * time.Millisecond

// close ends the servers that were started here.
func (s *site) close() error {
	if s.broker != nil {
		s.broker.Stop()
	}
	if s.postgres != nil {
		return s.postgres.Stop()
	}
	return nil
}
