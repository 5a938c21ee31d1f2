package inboxloop

import (
	"context"
	"time"
)

// OtherClaim is a claim that somebody else makes on the marks of the same consumer.
type OtherClaim struct {
	Claimant string
	Age      time.Duration // since it was made or repeated last
}

// Claim is inbox.Retain for a retention that is not negative. It returns what others claim under
// the same name. So a loop whose claimants name what it reads finds another one that reads the same
// and shares its marks.
func (l *Loop[TTx]) Claim(
	ctx context.Context, retention time.Duration, claimants ...string,
) (others []OtherClaim, err error) {
	found, err := l.ledger.Retain(ctx, retention, claimants...)
	for _, other := range found {
		others = append(others, OtherClaim(other))
	}
	return others, err
}
