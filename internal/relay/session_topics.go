package relay

import (
	"context"
	"errors"
	"time"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// awaitTopics waits until every topic of the page can be written to or is held. It reports false
// where the session was told to drain first.
func (s *session) awaitTopics(ctx context.Context, p *outboxread.Page) (bool, error) {
	retry := s.cfg.RetryMin
	waited := false
	for {
		pause, err := s.topicsPause(ctx, p)
		if err == nil {
			if waited {
				s.lane.running()
			}
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		forTopics := pause > 0
		if !forTopics { // the cluster is away, or has just made the topic
			pause, retry = backoff.Jitter(retry), min(2*retry, s.cfg.RetryMax)
		}
		if !errors.Is(err, topics.ErrJustCreated) {
			waited = true
			s.lane.failed(Waiting, err)
			s.lane.log.Warn("lane waits for a topic", "error", err, "retry_in", pause)
		}
		began := time.Now()
		ready, err := s.waitOrDrain(ctx, pause)
		if forTopics {
			s.topics.Unavailable.Spend(time.Since(began))
		}
		if !ready {
			return false, err
		}
	}
}

// topicsPause looks up the topics of a page that are not known. The error says what the page waits
// for; the pause is 0 unless that is a topic.
func (s *session) topicsPause(ctx context.Context, p *outboxread.Page) (time.Duration, error) {
	waitFor := []string(nil)
	if unknown := s.topics.Unknown(p.Records, faulty(p)); len(unknown) > 0 {
		if err := s.topics.LookUp(ctx, unknown); err != nil {
			return 0, err
		}
		waitFor = s.topics.Unknown(p.Records, faulty(p))
	}
	pause := s.topics.Unavailable.Pause(p.Records)
	if pause > 0 { // also for those that are known, and were refused a moment ago
		waitFor = topics.Of(p.Records)
	}
	return max(pause, time.Millisecond), s.topics.Unavailable.Waiting(waitFor)
}

// waitOrDrain reports false if the session was told to drain meanwhile, or has ended.
func (s *session) waitOrDrain(ctx context.Context, d time.Duration) (bool, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-s.drain:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
