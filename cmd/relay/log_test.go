package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/config"
)

func TestTheFormOfTheLogDependsOnTheTerminal(t *testing.T) {
	for _, test := range []struct {
		format   string
		terminal bool
		json     bool
	}{{"auto", false, true}, {"auto", true, false}, {"json", true, true}, {"text", false, false}} {
		c := prepare(nil)
		c.terminal = test.terminal
		c.logger(config.Config{LogFormat: test.format, LogLevel: "info"}).Info("hello")
		if got := strings.HasPrefix(c.err.String(), "{"); got != test.json {
			t.Errorf("%+v: got %s", test, c.err)
		}
	}
}

func TestTheLogHoldsNoPasswords(t *testing.T) {
	c := prepare(nil)
	c.logger(config.Config{LogFormat: "json", LogLevel: "debug"}).Debug("failed", "took", 2*time.Second,
		"error", errors.New("dial postgres://relay:hunter2@db/app"), "dsn", "host=db password=hunter2")
	got := c.err.String()
	if strings.Contains(got, "hunter2") || !strings.Contains(got, "relay:xxxxx@db") || !strings.Contains(got, `"took":"2s"`) {
		t.Errorf("got %s", got)
	}
}

func TestTheLevelOfTheLogIsKept(t *testing.T) {
	c := prepare(nil)
	logger := c.logger(config.Config{LogFormat: "text", LogLevel: "warn"})
	logger.Info("quiet")
	logger.Warn("loud")
	if got := c.err.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") {
		t.Errorf("got %s", got)
	}
}
