package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/harness/workload"
	"github.com/outbox-relay/relay/internal/sandbox"
	"github.com/outbox-relay/relay/internal/schema"
)

// database is the name of the demo's database, and so of its deployment.
const database = "demo"

// stage holds the throw-away servers.
type stage struct {
	postgres    *sandbox.Postgres
	broker      *sandbox.Broker
	databaseURL string
	bankURL     string // the same database, with the schema of the consumer
	version     string // of Postgres
}

// business is what the application of the demo has besides the outbox.
const business = workload.Table + "CREATE SCHEMA bank;"

// newStage starts the servers and makes the tables. On an error nothing is left running.
func newStage(ctx context.Context, accounts []string, tell func(string)) (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.broker, err = sandbox.StartBroker(ctx, sandbox.BrokerOptions{})
	if err != nil {
		return nil, err
	}
	s.postgres, err = sandbox.StartPostgres(ctx, sandbox.PostgresOptions{
		Notice: tell,
		// The demo crashes the relay, never the server: what fsync guards against cannot happen, and a
		// slow disk would only make everybody wait.
		Parameters: map[string]string{"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB"},
	})
	if err != nil {
		return nil, err
	}
	s.databaseURL, err = s.postgres.CreateDatabase(ctx, database)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, schema.Outbox, s.databaseURL); err != nil {
		return nil, err
	}
	if err := s.addBusiness(ctx, accounts); err != nil {
		return nil, err
	}
	s.bankURL = config.WithSchema(s.databaseURL, bankName)
	if err := migrate(ctx, schema.Inbox, s.bankURL); err != nil {
		return nil, err
	}
	return s, s.addBank(ctx, accounts)
}

// migrate does what `relay migrate up` and `relay inbox migrate up` do.
func migrate(ctx context.Context, component schema.Component, url string) (err error) {
	migrator, err := component.Open(ctx, url, 10*time.Second)
	if err != nil {
		return fmt.Errorf("make the %s: %w", component.Name, err)
	}
	defer func() { err = errors.Join(err, migrator.Close(ctx)) }()
	if err := migrator.Up(ctx, func(schema.Migration) {}); err != nil {
		return fmt.Errorf("make the %s: %w", component.Name, err)
	}
	return nil
}

func (s *stage) addBusiness(ctx context.Context, accounts []string) (err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return fmt.Errorf("make the accounts: %w", err)
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	if _, err := conn.Exec(ctx, business); err != nil {
		return fmt.Errorf("make the accounts: %w", err)
	}
	if _, err := conn.Exec(ctx, "INSERT INTO account (id) SELECT unnest($1::text[])", accounts); err != nil {
		return fmt.Errorf("make the accounts: %w", err)
	}
	if err := conn.QueryRow(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1)").Scan(&s.version); err != nil {
		return fmt.Errorf("ask Postgres for its version: %w", err)
	}
	return nil
}

// closeConn says goodbye, for a short while even if the demo was interrupted.
func closeConn(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// close ends the servers and removes their data.
func (s *stage) close() error {
	if s.broker != nil {
		s.broker.Stop()
	}
	if s.postgres != nil {
		return s.postgres.Stop()
	}
	return nil
}
