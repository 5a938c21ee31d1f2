package inbox_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

func TestMissingTablesAreFoundBeforeTheFirstMessage(t *testing.T) {
	each(t, func(w *world) {
		if err := w.Check(w.Context()); err != nil {
			w.Fatal(err)
		}
		if _, err := w.eye.Exec(w.Context(), "DROP TABLE inbox_claims"); err != nil {
			w.Fatal(err)
		}
		err := w.Check(w.Context())
		if !errors.Is(err, inbox.ErrSchema) || !strings.HasSuffix(strings.Split(err.Error(), ";")[0], ": inbox_claims") {
			w.Errorf("one table is missing: %v", err)
		}
		elsewhere := w.process(func(c *inbox.Config) { c.Schema = "no such schema" })
		if err := elsewhere.Check(w.Context()); !errors.Is(err, inbox.ErrSchema) || !strings.Contains(err.Error(), "inbox_parked_keys") {
			w.Errorf("all tables are missing: %v", err)
		}
	})
}
