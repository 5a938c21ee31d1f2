package integration

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/relay"
	migrations "github.com/outbox-relay/relay/sql"
)

// partitionRows is the width of the partitions of these tests: small, so that they come and go all the time.
const partitionRows = 1000

// layouts make a database with an outbox in each layout.
var layouts = map[string]func(t testing.TB) string{"plain": database, "partitioned": partitionedDatabase}

func partitionedDatabase(t testing.TB) string {
	t.Helper()
	url := database(t)
	partitionOutbox(t, url, partitionRows)
	return url
}

// partitionOutbox takes the steps to the partitioned layout, each in a transaction of its own.
func partitionOutbox(t testing.TB, url string, rows int) {
	t.Helper()
	for _, step := range migrations.Partitioned() {
		execute(t, url, fmt.Sprintf("SET outbox.partition_rows = %d; %s", rows, step.Up))
	}
}

func number(t testing.TB, conn *pgx.Conn, query string) (n int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// A row that is removed before it is published would be lost. Relays are killed at every step of a batch while writers write,
// with the cleaner at work as soon as a row may go, and in the one layout partitions are added and dropped meanwhile.
func TestKilledWithRetentionZeroNothingIsLost(t *testing.T) {
	for name, make := range layouts {
		t.Run(name, func(t *testing.T) {
			url := make(t)
			route, topic := routeOf(t)
			settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=100", "RELAY_RETENTION=0")
			load := startWorkload(t, url, 12, &workload{pause: 10 * time.Millisecond, open: 50 * time.Millisecond})
			steps := relay.Steps()
			for kill := range len(steps) {
				// Far enough that the cleaner has had a few rounds.
				failpoint := fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[kill], 120+rand.IntN(120))
				if status := startRelay(t, append(settings, failpoint), "run").Wait(time.Minute); status != -1 {
					t.Fatalf("the relay ended with status %d before it reached %s", status, failpoint)
				}
			}
			load.stop()
			conn := connect(t, url)
			kept := number(t, conn, "SELECT count(*) FROM outbox")
			finish(t, load, settings, topic)
			entries := int64(len(load.ledger(t)))
			if kept >= entries/2 {
				t.Errorf("%d of %d rows were kept: the cleaner has hardly worked", kept, entries)
			}
			t.Logf("%d of %d rows were kept at the end of the load", kept, entries)
		})
	}
}

// What keeps a row for now does not keep it for good, and keeps no other.
func TestRowsGoBesideLocksAndOldSnapshots(t *testing.T) {
	url := database(t)
	route, topic := routeOf(t)
	conn := connect(t, url)
	old := begin(t, url) // keeps dead rows from being vacuumed, not from being deleted
	if _, err := old.Exec(t.Context(), "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	late := begin(t, url)
	insert(t, late, "late", "late") // id 1
	fillOutbox(t, url, 3000)
	locks := begin(t, url)
	if _, err := locks.Exec(t.Context(), "SELECT FROM outbox WHERE id IN (2, 1500) FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	execute(t, url, "UPDATE outbox SET created_at = now() - interval '1 year' WHERE id > 1500") // however old they are
	r := startRelay(t, relaySettings(t, url, brokers(t), route, "RELAY_RETENTION=0"), "run")
	eventually(t, time.Minute, "all rows go but the locked ones", func() bool {
		return number(t, conn, "SELECT count(*) FROM outbox") == 2
	})
	commit(t, locks)
	commit(t, late)
	consume(t, brokers(t), 3001, time.Minute, topic)
	// A sweep begins at the lowest id again once a minute, and with each session.
	r.Terminate()
	if status := r.Wait(30 * time.Second); status != 0 {
		t.Errorf("the relay ended with status %d", status)
	}
	startRelay(t, relaySettings(t, url, brokers(t), route, "RELAY_RETENTION=0"), "run")
	eventually(t, time.Minute, "the late and the locked rows go", func() bool { return number(t, conn, "SELECT count(*) FROM outbox") == 0 })
	commit(t, old)
}

// A row that is old but not published stays, for as long as its topic keeps it from being published.
func TestAnOldRowThatIsNotPublishedStays(t *testing.T) {
	for name, make := range layouts {
		t.Run(name, func(t *testing.T) {
			url := make(t)
			route, topic := routeOf(t)
			execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at) "+
				"SELECT 'account', '1', 'Changed', now() - interval '1 year' FROM generate_series(1, 2500)")
			settings := relaySettings(t, url, brokers(t), route, "RELAY_RETENTION=0", "RELAY_TOPICS_CREATE=false")
			r := startRelay(t, settings, "run")
			r.AwaitLog(time.Minute, "lane waits for a topic")
			conn := connect(t, url)
			const round = `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'relay outbox retention' AND datname = current_database()
				AND state = 'idle' AND (query LIKE 'WITH seen%' OR query LIKE '%_drop_partition%')`
			eventually(t, time.Minute, "the cleaner has made a round", func() bool { return number(t, conn, round) == 1 })
			// They are parked, because their topic does not exist.
			const kept = "SELECT count(*) FROM (SELECT msg_id FROM outbox UNION SELECT msg_id FROM outbox_parked) AS kept"
			if n := number(t, conn, kept); n != 2500 {
				t.Fatalf("%d rows are left of 2500 that were not published", n)
			}
			createTopic(t, brokers(t), topic, 3)
			consume(t, brokers(t), 2500, time.Minute, topic)
			left := int64(0)
			if name == "partitioned" {
				left = 2500 - 2*partitionRows + 1 // the rest has no full partition yet; ids begin at 1
			}
			eventually(t, time.Minute, "the published rows go", func() bool { return number(t, conn, "SELECT count(*) FROM outbox") == left })
		})
	}
}

// The relay needs no more than its role to remove rows, and to add and drop partitions.
func TestTheRoleOfTheRelayIsEnoughForRetention(t *testing.T) {
	for name, make := range layouts {
		t.Run(name, func(t *testing.T) {
			address := make(t)
			conn := connect(t, address)
			withRoles(t, conn)
			login := "relay_" + uniqueLogin()
			execute(t, address, "CREATE ROLE "+login+" LOGIN PASSWORD 'secret' IN ROLE relay")
			t.Cleanup(func() { execute(t, address, "DROP ROLE "+login) })
			as, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			as.User = url.UserPassword(login, "secret")
			route, topic := routeOf(t)
			r := startRelay(t, relaySettings(t, as.String(), brokers(t), route, "RELAY_RETENTION=0"), "run")
			for range 5 {
				execute(t, address, "INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'account', '1', 'Changed' FROM generate_series(1, 1000)")
				eventually(t, time.Minute, "the rows go, all or with their partitions", func() bool {
					return number(t, conn, "SELECT count(*) FROM outbox") < partitionRows+1
				})
			}
			consume(t, brokers(t), 5000, time.Minute, topic)
			r.Terminate()
			if status := r.Wait(30 * time.Second); status != 0 {
				t.Errorf("the relay ended with status %d", status)
			}
		})
	}
}

func uniqueLogin() string { return fmt.Sprintf("%x", rand.Uint64()) }

// In the partitioned layout the roles may do as much as in the plain one, and nobody touches a partition but through the table.
func TestRolesOnThePartitionedLayout(t *testing.T) {
	conn := connect(t, emptyDatabase(t))
	script(t, conn, `ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; CREATE SCHEMA "Odd schema"; SET search_path = "Odd schema"`)
	for _, m := range slices.Concat(migrations.List(), migrations.Partitioned()) {
		script(t, conn, m.Up)
	}
	withRoles(t, conn)
	script(t, conn, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T')")
	const add, empty, drop = "SELECT outbox_add_partition(50)", "SELECT outbox_empty_partition(pg_current_snapshot(), 9223372036854775807, '0')", "SELECT outbox_drop_partition()"
	for role, allowed := range map[string][]string{
		"outbox_writer": {"INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T')", "SELECT outbox_write('order', '1', 'T', '{}')"},
		"relay":         {"SELECT * FROM outbox", "DELETE FROM outbox WHERE id = 1", add, empty, drop},
	} {
		for _, statement := range allowed {
			if state := as(t, conn, role, statement); state != "" {
				t.Errorf("%s may not %s: SQLSTATE %s", role, statement, state)
			}
		}
	}
	for role, forbidden := range map[string][]string{
		"outbox_writer": {
			add, empty, drop, "SELECT outbox_partitions()", "INSERT INTO outbox_p0 (id, aggregate_type, aggregate_id, type, msg_id, created_at, xact_id) VALUES (7, 'a', '1', 'T', gen_random_uuid(), now(), '3')",
			"INSERT INTO outbox (aggregate_type, aggregate_id, type, xact_id) VALUES ('a', '1', 'T', '3')",
			"INSERT INTO outbox (id, aggregate_type, aggregate_id, type) OVERRIDING SYSTEM VALUE VALUES (1, 'a', '1', 'T')",
			"SELECT id FROM outbox", "DELETE FROM outbox", "DROP TABLE outbox_p0", "SELECT setval('outbox_id_seq', 1)",
		},
		"relay": {"UPDATE outbox SET payload = ''", "UPDATE outbox SET id = DEFAULT", "DROP TABLE outbox_p0", "TRUNCATE outbox_p0", "ALTER TABLE outbox DETACH PARTITION outbox_p0",
			"CREATE TABLE x PARTITION OF outbox FOR VALUES FROM (-2) TO (-1)", "SELECT nextval('outbox_id_seq')"},
	} {
		for _, statement := range forbidden {
			if state := as(t, conn, role, statement); state != denied {
				t.Errorf("%s may %s (SQLSTATE %q)", role, statement, state)
			}
		}
	}
}
