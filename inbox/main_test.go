package inbox_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/inbox/internal/exampledb"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(exampledb.Close(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
