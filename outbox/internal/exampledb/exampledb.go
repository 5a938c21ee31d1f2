package exampledb

import (
	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

// tables are what the example service keeps: an order.
const tables = `CREATE TABLE orders (id text PRIMARY KEY, state text NOT NULL);
INSERT INTO orders VALUES ('42', 'new');`

// URL makes a database with the outbox and a table orders (id, state), and returns its connection
// string.
func URL() string { return testpg.Example(tables, migrations.List()) }
