package relay

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaLogger hands the client's log on, one level down: what matters of it the relay reports itself.
type kafkaLogger struct{ log *slog.Logger }

func (l kafkaLogger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelNone
}

func (l kafkaLogger) Log(level kgo.LogLevel, message string, attributes ...any) {
	l.log.Debug("kafka: "+message, append(attributes, "kafka_level", level.String())...)
}
