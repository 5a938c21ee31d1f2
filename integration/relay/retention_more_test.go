//go:build more

package relay

import (
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
)

// In the plain layout the cleaner deletes row by row.
func TestKilledWithRetentionZeroInThePlainLayoutNothingIsLost(t *testing.T) {
	t.Parallel()
	killWithRetentionZero(t, kit.Database(t))
}
