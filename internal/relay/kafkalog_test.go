package relay

import (
	"log/slog"
	"strings"
	"testing"
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
