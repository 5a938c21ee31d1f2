package outbox_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/outbox-relay/relay/outbox/internal/exampledb"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := exampledb.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
