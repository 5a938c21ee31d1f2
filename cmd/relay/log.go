package main

import (
	"log/slog"
	"time"

	"github.com/outbox-relay/relay/internal/config"
)

// logger writes to standard error in the configured form and level, without passwords.
func (p program) logger(cfg config.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // the choices of log.level are all levels of slog
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: redactAttr}
	if cfg.LogFormat == "json" || cfg.LogFormat == "auto" && !p.terminal {
		return slog.New(slog.NewJSONHandler(p.stderr, options))
	}
	return slog.New(slog.NewTextHandler(p.stderr, options))
}

// redactAttr writes durations as people do, and is the last line of defence for passwords: errors
// of drivers may quote a connection string.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		return slog.String(a.Key, config.Redact(v))
	case time.Duration:
		return slog.String(a.Key, v.String()) // JSON would show a number of nanoseconds
	case error:
		return slog.String(a.Key, config.Redact(v.Error()))
	}
	return a
}
