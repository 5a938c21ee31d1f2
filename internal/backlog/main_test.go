package backlog

import (
	"testing"

	"github.com/outbox-relay/relay/internal/harness/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{Parallel: 4}) }
