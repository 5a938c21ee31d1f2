package security

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	migrations "github.com/outbox-relay/relay/sql"
)

// The relay needs no more than its role to remove rows, and to add and drop partitions.
func TestTheRoleOfTheRelayIsEnoughForRetention(t *testing.T) {
	t.Parallel()
	for name, make := range kit.Layouts {
		t.Run(name, func(t *testing.T) {
			address := make(t)
			conn := kit.Connect(t, address)
			withRoles(t, conn)
			login := "relay_" + uniqueLogin()
			kit.Execute(t, address, "CREATE ROLE "+login+" LOGIN PASSWORD 'secret' IN ROLE relay")
			t.Cleanup(func() { kit.Execute(t, address, "DROP ROLE "+login) })
			as, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			as.User = url.UserPassword(login, "secret")
			route, topic := kit.RouteOf(t)
			r := kit.StartRelay(t, kit.RelaySettings(t, as.String(), kit.Brokers(t), route, "RELAY_RETENTION=0"), "run")
			for range 5 {
				kit.Execute(t, address, "INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'account', '1', 'Changed' FROM generate_series(1, 1000)")
				kit.Eventually(t, time.Minute, "the rows go, all or with their partitions", func() bool {
					return kit.Number(t, conn, "SELECT count(*) FROM outbox") < kit.PartitionRows+1
				})
			}
			kit.Consume(t, kit.Brokers(t), 5000, time.Minute, topic)
			r.Terminate()
			if status := r.Wait(30 * time.Second); status != 0 {
				t.Errorf("the relay ended with status %d", status)
			}
		})
	}
}

func uniqueLogin() string { return fmt.Sprintf("%x", rand.Uint64()) }

// In the partitioned layout the roles may do as much as in the plain one, and no role touches a
// partition but through the table.
func TestRolesOnThePartitionedLayout(t *testing.T) {
	t.Parallel()
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	kit.Script(t, conn, `ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; CREATE SCHEMA "Odd schema"; SET search_path = "Odd schema"`)
	for _, m := range slices.Concat(migrations.List(), migrations.Partitioned()) {
		kit.Script(t, conn, m.Up)
	}
	withRoles(t, conn)
	kit.Script(t, conn, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T')")
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
