package relay

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/outbox-relay/relay/internal/parking"
)

// lockedBuffer is a log that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// A batch of bad rows is a few lines of log, and its count.
func TestBadRowsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic)
		SELECT 'order', n, 'T', 'no topic!' FROM generate_series(1, 500) n`)
	r.putEvent("b", "good")
	log := new(lockedBuffer)
	cfg := r.config()
	cfg.Poison, cfg.Logger = parking.Skip, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	s := r.start(cfg)
	s.awaitRows(t, 1)
	s.stop()
	text := log.String()
	if lines := strings.Count(text, "\n"); lines > parking.Reported+1 || !strings.Contains(text, "rows=497") {
		t.Errorf("%d lines: %s", lines, text[:min(len(text), 2000)])
	}
	if n := query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE action = 'skip'`); n != 500 {
		t.Errorf("%d skipped rows are recorded", n)
	}
}
