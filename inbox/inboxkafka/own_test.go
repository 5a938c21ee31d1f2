package inboxkafka_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	migrations "github.com/outbox-relay/relay/sql"
)

// poolWith is a pool whose sessions have other settings.
func (s *service) poolWith(settings map[string]string) *pgxpool.Pool {
	s.t.Helper()
	config := s.pool.Config()
	for name, value := range settings {
		config.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pool.Close)
	return pool
}

// lines is a log that may be written and read at once.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(all ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		found := true
		for _, part := range all {
			found = found && strings.Contains(line, part)
		}
		if found {
			return true
		}
	}
	return false
}

// Somebody holds the marks, or takes a right away: healthy messages wait, with the reason in the
// log, and none is parked.
func TestMessagesWhoseHandlerNeverRanAreNotParked(t *testing.T) {
	for _, test := range []struct{ name, before, begin, end, reason string }{
		{"lock", "", "BEGIN; LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "VACUUM FULL"},
		{
			"right", "GRANT SELECT, INSERT ON effects TO inbox_consumer; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO inbox_consumer",
			"REVOKE SELECT, INSERT ON inbox_parked_keys FROM inbox_consumer",
			"GRANT SELECT, INSERT (consumer, topic, key) ON inbox_parked_keys TO inbox_consumer", "roles.sql",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newService(t)
			settings := map[string]string{"lock_timeout": "5ms"}
			if test.before != "" {
				s.script(migrations.InboxRoles + test.before)
				settings["role"] = "inbox_consumer"
			}
			in, err := inbox.New(s.poolWith(settings), &inbox.Config{Consumer: "billing"})
			if err != nil {
				t.Fatal(err)
			}
			log := &lines{}
			_, stop := s.runOn(in, inboxkafka.Handle(record), inboxkafka.Config{
				Attempts: 2, Logger: slog.New(slog.NewTextHandler(log, nil)),
			}, 20*time.Millisecond)
			produce(s.brokers, messages(0, 20, "a", "b", "c")...)
			s.await("the first effects", s.effects(20))
			do, release := s.session()
			defer release()
			do(test.begin)
			produce(s.brokers, messages(20, 20, "a", "b", "c")...)
			s.await("the reason", func() bool { return log.has("level=ERROR", "paused", test.reason) })
			do(test.end)
			s.await("the others", s.effects(40))
			stop()
			if n := s.scalar("SELECT count(*) FROM inbox_parked"); n != 0 || log.has("message failed") {
				t.Errorf("%d healthy messages are parked, or failed", n)
			}
			s.checkOrder()
		})
	}
}

// session runs scripts one after the other in one session.
func (s *service) session() (do func(script string), release func()) {
	s.t.Helper()
	conn, err := s.pool.Acquire(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return func(script string) {
		s.t.Helper()
		if _, err := conn.Conn().PgConn().Exec(s.t.Context(), script).ReadAll(); err != nil {
			s.t.Fatal(err)
		}
	}, conn.Release
}

func (s *service) script(script string) {
	s.t.Helper()
	do, release := s.session()
	defer release()
	do(script)
}

// One name, two Consumers with their own topics and their own settings, as they come without
// further thought.
func TestTwoConsumersOfOneNameKeepMarksForTheLongerTime(t *testing.T) {
	s := newService(t)
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	kept := func() int64 {
		return s.scalar("SELECT coalesce(sum(extract(epoch FROM retention) / 3600), 0)::bigint FROM inbox_consumers")
	}
	_, _ = s.runOn(in, inboxkafka.Handle(record), inboxkafka.Config{Retention: 20_000 * time.Hour, Group: "long"}, 20*time.Millisecond)
	s.await("the longer time", func() bool { return kept() == 20_000 })
	_, _ = s.runOn(in, inboxkafka.Handle(record), inboxkafka.Config{Retention: 10_000 * time.Hour, Group: "short"}, 20*time.Millisecond)
	s.await("both claims", func() bool { return s.scalar("SELECT count(*) FROM inbox_retentions") == 2 })
	if h := kept(); h != 20_000 {
		t.Errorf("marks are kept for %d h, want 20000 h", h)
	}
}

// Two groups read one topic with inboxes of one name: each message has its effect in one of them
// only, so both say so.
func TestTwoGroupsOfOneNameThatReadOneTopicAreTold(t *testing.T) {
	s := newService(t)
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	run := func(group string) *lines {
		log := &lines{}
		_, _ = s.runOn(in, inboxkafka.Handle(record), inboxkafka.Config{
			Group: group, SweepInterval: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
		}, 20*time.Millisecond)
		return log
	}
	told := func(log *lines, other string) func() bool {
		return func() bool {
			return log.has("level=WARN", "an inbox of the same name", "other_group="+other+" ", "topic=transfers")
		}
	}
	first := run("first")
	s.await("the claim of the first", func() bool { return s.scalar("SELECT count(*) FROM inbox_retentions") == 1 })
	again, second := run("first"), run("second")
	s.await("a warning of the second group", told(second, "first"))
	s.await("a warning of the first group", told(first, "second"))
	s.await("a warning of its other process", told(again, "second"))
	if first.has("other_group=first ") || again.has("other_group=first ") {
		t.Error("a process is taken for another group")
	}
}
