package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// topicWait waits for the topics of pages. The publisher uses it.
type topicWait struct {
	topics             *topics.Registry
	retryMin, retryMax time.Duration // between questions to a cluster that does not answer
	waiting            func(error)
	working            func()
	drain              <-chan struct{} // closed if the lane is to end
	logger             *slog.Logger
}

// forTopics waits until every topic of the page can be written to or is suspended. It reports false
// if the lane was told to drain first.
func (w *topicWait) forTopics(ctx context.Context, page *outboxread.Page) (bool, error) {
	retry := w.retryMin
	waited := false
	for {
		pause, err := w.lookUp(ctx, page)
		if err == nil {
			if waited {
				w.working()
			}
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		forTopics := pause > 0
		if !forTopics { // the cluster is unavailable, or has just made the topic
			pause, retry = backoff.Jitter(retry), min(2*retry, w.retryMax)
		}
		if !errors.Is(err, topics.ErrJustCreated) {
			waited = true
			w.waiting(err)
			w.logger.Warn("lane waits for a topic", "error", err, "retry_in", pause)
		}
		began := time.Now()
		ready, err := w.sleep(ctx, pause)
		if forTopics {
			w.topics.Unavailable.Spend(time.Since(began))
		}
		if !ready {
			return false, err
		}
	}
}

// lookUp looks up the topics of a page that are not known. The error says what the page waits for;
// the pause is 0 unless that is a topic.
func (w *topicWait) lookUp(ctx context.Context, page *outboxread.Page) (time.Duration, error) {
	waitFor := []string(nil)
	if unknown := w.topics.Unknown(page.Records, faulty(page)); len(unknown) > 0 {
		if err := w.topics.LookUp(ctx, unknown); err != nil {
			return 0, err
		}
		waitFor = w.topics.Unknown(page.Records, faulty(page))
	}
	pause := w.topics.Unavailable.Pause(page.Records)
	if pause > 0 { // also for those that are known, and were refused a moment ago
		waitFor = topics.Of(page.Records)
	}
	return max(pause, time.Millisecond), w.topics.Unavailable.Waiting(waitFor)
}

// faulty are the places of the records that can never be sent.
func faulty(page *outboxread.Page) []int {
	var at []int
	for _, fault := range page.Faults {
		at = append(at, fault.At)
	}
	return at
}

// sleep reports false if the lane was told to drain meanwhile, or has ended.
func (w *topicWait) sleep(ctx context.Context, d time.Duration) (bool, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-w.drain:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
