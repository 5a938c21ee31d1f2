package victim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxsql"
)

// Run consumes until ctx ends.
func Run(ctx context.Context, settings Settings) (err error) {
	fail, err := parseFailpoint(settings.Fail)
	if err != nil {
		return err
	}
	s := &service{consumer: settings.Consumer, fail: fail, flaky: make(map[string]int)}
	if settings.Mails != "" {
		if s.mails, err = os.OpenFile(settings.Mails, os.O_APPEND|os.O_WRONLY, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.mails.Close()) }()
	}
	consumer, disconnect, err := s.connect(settings)
	if err != nil {
		return err
	}
	defer briefly(disconnect)
	return consumer.Run(ctx)
}

// connect makes the consumer, on pgx or on database/sql.
func (s *service) connect(settings Settings) (consumer *inboxkafka.Consumer, disconnect func(), err error) {
	pool, err := poolConfig(settings, s.fail)
	if err != nil {
		return nil, nil, err
	}
	config := &inbox.Config{Consumer: settings.Consumer, HandlerTimeout: settings.HandlerTimeout}
	if settings.SQL {
		db := stdlib.OpenDB(*pool.ConnConfig)
		db.SetMaxOpenConns(int(pool.MaxConns))
		db.SetMaxIdleConns(int(pool.MaxConns))
		in, err := inboxsql.New(db, config)
		if err != nil {
			return nil, nil, err
		}
		handler := handler(s, settings, func(tx *sql.Tx) transaction { return sqlTransaction{tx} })
		consumer, err = inboxkafka.New(in, handler, s.config(settings))
		return consumer, func() { _ = db.Close() }, err
	}
	connections, err := pgxpool.NewWithConfig(context.Background(), pool)
	if err != nil {
		return nil, nil, err
	}
	in, err := inbox.New(connections, config)
	if err != nil {
		return nil, nil, err
	}
	handler := handler(s, settings, func(tx pgx.Tx) transaction { return pgxTransaction{tx} })
	consumer, err = inboxkafka.New(in, handler, s.config(settings))
	return consumer, connections.Close, err
}

// briefly disconnects, and does not wait for servers that do not say goodbye: the pool waits 15 s
// for each.
func briefly(disconnect func()) {
	closed := make(chan struct{})
	go func() {
		disconnect()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
}

func poolConfig(settings Settings, fail *failpoint) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(settings.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	config.MaxConns = int32(max(4, settings.Workers+2))
	config.ConnConfig.DialFunc = fail.dial
	config.ConnConfig.ConnectTimeout = 2 * time.Second
	return config, nil
}

func (s *service) config(settings Settings) *inboxkafka.Config {
	config := &inboxkafka.Config{
		Brokers: settings.Brokers, Topics: settings.Topics,
		Options: append(s.fail.options(), kgo.MetadataMinAge(100*time.Millisecond), kgo.FetchMaxWait(200*time.Millisecond),
			kgo.WithHooks(&membership{})),
		Workers: settings.Workers, Attempts: settings.Attempts, CrashLimit: settings.CrashLimit,
		DrainTimeout: settings.DrainTimeout, SessionTimeout: settings.SessionTimeout, Retention: inboxkafka.KeepForever,
		BackoffMin: 20 * time.Millisecond, BackoffMax: settings.Backoff,
		CommitInterval: 200 * time.Millisecond, RetryInterval: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if settings.SessionTimeout > 0 {
		config.Options = append(config.Options, kgo.HeartbeatInterval(settings.SessionTimeout/5))
	}
	if settings.Debezium {
		config.Identify = inboxkafka.DebeziumIdentity
	}
	return config
}
