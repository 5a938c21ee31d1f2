package preflight

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/testpg"
)

func TestASchemaInWhichOthersMayCreateIsAWarningWithTheRemedy(t *testing.T) {
	databaseURL := testpg.Database(t)
	conn := testpg.Connect(t, databaseURL)
	execute := func(script string) {
		t.Helper()
		testpg.Exec(t, conn, script)
	}
	execute(`CREATE ROLE "Mallory's"; CREATE ROLE landlord; CREATE ROLE tenant;
		CREATE SCHEMA "Odd one" AUTHORIZATION landlord; CREATE TABLE "Odd one".a (); CREATE TABLE "Odd one".b ();
		ALTER TABLE "Odd one".a OWNER TO tenant; ALTER TABLE "Odd one".b OWNER TO tenant;
		GRANT CREATE ON SCHEMA "Odd one" TO tenant`)
	warnings := func() string {
		t.Helper()
		var log bytes.Buffer
		cfg := fit(t)
		cfg.DatabaseURL, cfg.Tables, cfg.Logger = databaseURL, []string{"Odd one.a", "Odd one.b"}, slog.New(slog.NewTextHandler(&log, nil))
		if err := Check(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	if log := warnings(); log != "" {
		t.Errorf("the owners of the schema and of the tables are no strangers: %s", log)
	}
	execute(`GRANT CREATE ON SCHEMA "Odd one" TO PUBLIC, "Mallory's"`)
	const remedy = `REVOKE CREATE ON SCHEMA "Odd one" FROM "Mallory's", PUBLIC;`
	if log := warnings(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, strings.ReplaceAll(remedy, `"`, `\"`)) {
		t.Errorf("got %s, want one warning with %s", log, remedy)
	}
	execute(remedy)
	if log := warnings(); log != "" {
		t.Errorf("after the remedy: %s", log)
	}
}
