//go:build long

package inbox

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
)

// The crash loop in its long form: 200 kills.
func TestConsumersKilledTwoHundredTimes(t *testing.T) {
	crashLoop{
		kills: kit.NumberOf(t, "RELAY_TEST_KILLS", 200), slots: 4, pause: 60 * time.Millisecond, batch: sometimes,
		deadline: 30 * time.Minute,
	}.run(t)
}

// The database is unavailable for a minute, three times in different ways.
func TestTheDatabaseIsAwayForAMinute(t *testing.T) {
	databaseAway(t, time.Minute)
}
