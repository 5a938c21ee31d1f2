package victim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// Run consumes until ctx ends.
func Run(ctx context.Context, settings Settings) (err error) {
	fail, err := parseFailpoint(settings.Fail)
	if err != nil {
		return err
	}
	pool, err := connect(settings, fail)
	if err != nil {
		return err
	}
	defer closeBriefly(pool)
	s := &service{consumer: settings.Consumer, fail: fail, flaky: make(map[string]int)}
	if settings.Mails != "" {
		if s.mails, err = os.OpenFile(settings.Mails, os.O_APPEND|os.O_WRONLY, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.mails.Close()) }()
	}
	in, err := inbox.New(pool, &inbox.Config{Consumer: settings.Consumer, HandlerTimeout: settings.HandlerTimeout})
	if err != nil {
		return err
	}
	consumer, err := inboxkafka.New(in, s.handler(settings), s.config(settings))
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}

// closeBriefly closes a pool, and does not wait for servers that do not say goodbye: the pool has 15 s of patience with each.
func closeBriefly(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
}

func connect(settings Settings, fail *failpoint) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(settings.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	config.MaxConns = int32(max(4, settings.Workers+2))
	config.ConnConfig.DialFunc = fail.dial
	config.ConnConfig.ConnectTimeout = 2 * time.Second
	return pgxpool.NewWithConfig(context.Background(), config)
}

func (s *service) handler(settings Settings) inboxkafka.Handler[pgx.Tx] {
	switch {
	case settings.Mails != "":
		return inboxkafka.AtMostOnce[pgx.Tx](s.mail)
	case settings.Batch:
		return inboxkafka.HandleBatch(s.handleAll)
	}
	return inboxkafka.Handle(s.handle)
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
