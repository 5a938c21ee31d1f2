package exampledb

import (
	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

// tables are what business the examples and tests have: accounts with some money, and a list of
// effects.
const tables = `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO accounts VALUES ('alice', 100), ('bob', 0);
CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg text NOT NULL,
	tx text NOT NULL DEFAULT txid_current());`

// URL makes a database with the inbox, the outbox, accounts (id, balance) of alice and bob, and an
// empty table effects (msg), and returns its connection string.
func URL() string { return testpg.Example(tables, migrations.List(), migrations.Inbox()) }
