package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/lanestore"
	migrations "github.com/outbox-relay/relay/sql"
)

// laneTables makes n outbox tables, each in its own schema, and returns the names of the schemas.
// The relay's own tables are in public.
func laneTables(t testing.TB, url string, n int) []string {
	t.Helper()
	var schemas []string
	for i := range n {
		schema := fmt.Sprintf("team%d", i)
		kit.Execute(t, url, "CREATE SCHEMA "+schema+"; SET search_path = "+schema+"; "+migrations.List()[0].Up)
		schemas = append(schemas, schema)
	}
	return schemas
}

// lanesFile is a configuration file of the lanes, with lines for single ones.
func lanesFile(t testing.TB, schemas []string, own map[string]string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("lanes:\n")
	for _, schema := range schemas {
		fmt.Fprintf(&text, "  %s:\n    table: %s.outbox\n%s", schema, schema, own[schema])
	}
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// putEvents writes n events of five aggregates into the outbox of a schema, numbered from from on.
func putEvents(t testing.TB, url, schema string, from, n int) {
	t.Helper()
	kit.Execute(t, url, fmt.Sprintf(`INSERT INTO %s.outbox (aggregate_type, aggregate_id, type, payload)
SELECT '%s', (n %% 5)::text, 'Changed', convert_to(n::text, 'UTF8') FROM generate_series(%d, %d) n`, schema, schema, from, from+n-1))
}

// owners is how many lanes each owner runs, as far as the lock shows.
func owners(t testing.TB, url string) map[string]int {
	t.Helper()
	conn := kit.Connect(t, url)
	defer kit.CloseQuietly(conn)
	rows, err := conn.Query(t.Context(), `SELECT r.owner FROM relay_lanes r JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted
AND (l.classid::bigint << 32 | l.objid::bigint) = `+lanestore.LockKey("r.lane")+` WHERE r.state = 'running'`)
	if err != nil {
		t.Fatal(err)
	}
	lanes := make(map[string]int)
	for rows.Next() {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			t.Fatal(err)
		}
		lanes[owner]++
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return lanes
}

// Several outbox tables of one database are their own lanes: replicas share them evenly, one that
// halts stops no other, and the lanes of a replica that is killed go on at the others.
func TestLanesAreSharedEvenlyAndStopNoOther(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	schemas := laneTables(t, url, 6)
	prefix := kit.UniqueName(t)
	bootstrap := kit.Brokers(t)
	file := lanesFile(t, schemas, map[string]string{"team3": "    poison: halt\n", "team1": "    batch.rows: 7\n"})
	settings := kit.RelaySettings(t, url, bootstrap, "RELAY_CONFIG="+file, "RELAY_ROUTE="+prefix+".{aggregate_type}", "RELAY_TOPICS_PARTITIONS=3")
	relays := []*kit.RelayProcess{kit.StartRelay(t, settings, "run")}
	kit.Eventually(t, time.Minute, "the first relay runs every lane", func() bool {
		return shares(owners(t, url)) == "[6]"
	})
	for i := range schemas {
		putEvents(t, url, schemas[i], 0, 100)
	}
	for _, want := range []string{"[3 3]", "[2 2 2]"} {
		began := time.Now()
		relays = append(relays, kit.StartRelay(t, settings, "run"))
		kit.Eventually(t, time.Minute, "the lanes are shared "+want, func() bool { return shares(owners(t, url)) == want })
		t.Logf("shared %s after %v", want, time.Since(began).Round(10*time.Millisecond))
	}
	kit.Execute(t, url, `INSERT INTO team3.outbox (aggregate_type, aggregate_id, type, topic) VALUES ('team3', '1', 'T', 'no topic!')`)
	kit.Eventually(t, time.Minute, "the lane with the bad row halts", func() bool {
		return count(t, url, `SELECT count(*) FROM relay_lanes WHERE lane = 'team3' AND state = 'halted'`) == 1
	})
	for i := range schemas {
		putEvents(t, url, schemas[i], 100, 100)
	}
	relays[1].Kill()
	killed := time.Now()
	kit.Eventually(t, 20*time.Second, "the lanes of the dead go on", func() bool {
		return len(owners(t, url)) == 2 && published(t, url, schemas...) == len(schemas)-1
	})
	t.Logf("after the kill every lane but the halted one was published in %v", time.Since(killed).Round(10*time.Millisecond))
	kit.Execute(t, url, `DELETE FROM team3.outbox WHERE topic IS NOT NULL`)
	kit.Eventually(t, time.Minute, "the halted lane goes on", func() bool { return published(t, url, schemas...) == len(schemas) })
	for _, i := range []int{0, 2} {
		relays[i].Terminate()
		if status := relays[i].Wait(time.Minute); status != 0 {
			t.Errorf("SIGTERM ended the relay with status %d", status)
		}
	}
	for _, schema := range schemas {
		next := make(map[string]int)
		for _, r := range kit.Everything(t, bootstrap, prefix+"."+schema) {
			key := string(r.Key)
			if want := fmt.Sprint(next[key]*5 + int(key[0]-'0')); string(r.Value) != want {
				t.Errorf("%s: key %s has %s, want %s", schema, key, r.Value, want)
			}
			next[key]++
		}
		if len(next) != 5 || next["0"] != 40 || next["4"] != 40 {
			t.Errorf("%s: the topic holds %v", schema, next)
		}
	}
}

// published is how many of the lanes have nothing left to publish. What the row intends counts once
// it is confirmed: a relay that is killed in between has not published it.
func published(t testing.TB, url string, schemas ...string) (n int) {
	t.Helper()
	for _, schema := range schemas {
		n += count(t, url, fmt.Sprintf(`SELECT count(*) FILTER (WHERE seq = confirmed_seq AND snapshot_to IS NULL AND NOT EXISTS (
    SELECT FROM %s.outbox WHERE snapshot_from IS NULL OR NOT pg_visible_in_snapshot(xact_id, snapshot_from)))
FROM relay_lanes WHERE lane = '%s'`, schema, schema))
	}
	return n
}

// shares lists how many lanes each owner runs.
func shares(m map[string]int) string {
	var all []int
	for _, n := range m {
		all = append(all, n)
	}
	return fmt.Sprint(all)
}

// The order of the lanes in the configuration is free: each keeps its partition of the checkpoint
// topic.
func TestLanesMayChangePlacesAndBeAdded(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	schemas := laneTables(t, url, 3)
	prefix := kit.UniqueName(t)
	bootstrap := kit.Brokers(t)
	run := func(schemas ...string) {
		t.Helper()
		settings := kit.RelaySettings(t, url, bootstrap, "RELAY_CONFIG="+lanesFile(t, schemas, nil),
			"RELAY_ROUTE="+prefix+".{aggregate_type}", "RELAY_TOPICS_PARTITIONS=1")
		for _, schema := range schemas {
			putEvents(t, url, schema, count(t, url, "SELECT count(*) FROM "+schema+".outbox"), 10)
		}
		process := kit.StartRelay(t, settings, "run")
		kit.Eventually(t, time.Minute, "all is published", func() bool { return published(t, url, schemas...) == len(schemas) })
		process.Terminate()
		process.Wait(time.Minute)
	}
	run(schemas[0], schemas[1])
	run(schemas[1], schemas[0])
	run(schemas[2], schemas[1], schemas[0])
	run(schemas[2])
	for i, want := range []int{30, 30, 20} {
		if got := len(kit.Everything(t, bootstrap, prefix+"."+schemas[i])); got != want {
			t.Errorf("%s: %d events, want %d", schemas[i], got, want)
		}
	}
}

// Two databases on one cluster have nothing in common but the cluster.
func TestTwoDatabasesShareACluster(t *testing.T) {
	t.Parallel()
	bootstrap := kit.Brokers(t)
	prefix := kit.UniqueName(t)
	for range 2 {
		url := kit.Database(t)
		settings := kit.RelaySettings(t, url, bootstrap, "RELAY_ROUTE="+prefix+".{aggregate_type}", "RELAY_TOPICS_PARTITIONS=1")
		process := kit.StartRelay(t, settings, "run")
		putEvents(t, url, "public", 0, 10)
		kit.Eventually(t, time.Minute, "all is published", func() bool {
			return count(t, url, `SELECT count(*) FROM relay_lanes, outbox WHERE pg_visible_in_snapshot(xact_id, snapshot_from)`) == 10
		})
		t.Cleanup(process.Terminate) // both run until the end
	}
	if got := len(kit.Everything(t, bootstrap, prefix+".public")); got != 20 {
		t.Errorf("%d events, want 20", got)
	}
}
