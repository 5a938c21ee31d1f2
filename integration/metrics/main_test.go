//go:build alerts

package metrics

import (
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
