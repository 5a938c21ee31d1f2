package kafkaclient

import (
	"bytes"
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

func TestTheKafkaClientsWarningsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(bytes.Buffer)
		shared := NewRepeats()
		client := func(lane string) Logger {
			return Logger{slog.New(slog.NewTextHandler(log, nil)).With("lane", lane), shared}
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
