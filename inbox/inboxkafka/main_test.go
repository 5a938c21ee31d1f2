package inboxkafka

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test: passing it is a failure, never a way on.
const patience = 30 * time.Second
