package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The relay says that it waits for the cluster; why no broker can be reached only the client knows.
func TestWhatTheKafkaClientWarnsOfIsInTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := new(lockedBuffer)
	cfg := r.config()
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Brokers = []string{"127.0.0.1:1"}
	s := r.start(cfg)
	s.await(t, "the lane has tried again", func(*recorder) bool { return len(s.takeovers) > 1 })
	s.stop()
	text := log.String()
	const unreachable = `level=WARN msg="kafka: unable to open connection to broker"`
	if n := strings.Count(text, unreachable); n != 1 {
		t.Errorf("%d times %s in: %s", n, unreachable, text)
	}
}

func TestTheKafkaClientsWarningsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lockedBuffer)
		shared := newRepeats()
		client := func(lane string) kafkaLogger {
			return kafkaLogger{slog.New(slog.NewTextHandler(log, nil)).With("lane", lane), shared}
		}
		for i := range 100 {
			for _, lane := range []string{"a", "b"} {
				client(lane).Log(kgo.LogLevelWarn, "unable to open connection", "err", fmt.Errorf("port %d", i))
				client(lane).Log(kgo.LogLevelError, "group errored", "err", errors.New("x"))
				client(lane).Log(kgo.LogLevelWarn, "closing", "err", fmt.Errorf("read: %w", context.Canceled))
				client(lane).Log(kgo.LogLevelWarn, "closing", "err", kgo.ErrClientClosed)
			}
			time.Sleep(time.Second)
		}
		for what, want := range map[string]int{
			"unable to open": 2, "group errored": 2, "closing": 0, " level=WARN": 4, "held_back=119": 2, `err="port 0"`: 1, `err="port 60"`: 1,
		} {
			if got := strings.Count(log.String(), what); got != want {
				t.Errorf("%q stands %d times in the log, want %d: %s", what, got, want, log)
			}
		}
	})
}
