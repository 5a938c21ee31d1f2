// Package clientlog passes on what the Kafka client says.
package clientlog

import (
	"context"
	"errors"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Group logs why this process is not in the group. The client tries again by itself.
type Group struct{ To *slog.Logger }

// OnGroupManageError is called by the client when it drops out of the group.
func (h *Group) OnGroupManageError(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.To.Warn("not in the group; joining again", "error", err)
	}
}

// Logger passes what the client says on, one level lower: it is not this package's event.
type Logger struct{ To *slog.Logger }

// Level is asked by the client before it makes a text.
func (l Logger) Level() kgo.LogLevel {
	switch ctx := context.Background(); {
	case l.To.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelInfo
	case l.To.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelError
}

// Log is called by the client.
func (l Logger) Log(level kgo.LogLevel, text string, keyvals ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelError {
		to = slog.LevelWarn
	}
	l.To.Log(context.Background(), to, "kafka client: "+text, keyvals...)
}
