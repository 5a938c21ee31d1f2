package victim

import (
	"fmt"
	"hash/fnv"
)

// Accounts is how many accounts there are; each begins with nothing.
const Accounts = 500

// Tables makes the tables of the service. None of them keeps an effect from happening twice: a table effect without any
// unique constraint, accounts, and for each key a count of its effects under its row lock, so that place is the order in
// which effects of a key were committed.
var Tables = fmt.Sprintf(`
CREATE TABLE effect (consumer text, source text, msg_id text, key text, version bigint, place bigint, pid int);
CREATE TABLE progress (consumer text, key text, place bigint NOT NULL DEFAULT 1, PRIMARY KEY (consumer, key));
CREATE TABLE balance (consumer text, id int, amount bigint NOT NULL DEFAULT 0, PRIMARY KEY (consumer, id));
CREATE TABLE poison (key text, version bigint, kind text, PRIMARY KEY (key, version));
CREATE FUNCTION open_accounts(name text) RETURNS void LANGUAGE sql AS
    'INSERT INTO balance SELECT name, id FROM generate_series(0, %d) id ON CONFLICT DO NOTHING';
`, Accounts-1)

// Move says what the message of a key with a version moves between which accounts.
func Move(key string, version int64) (from, to int, amount int64) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key)) // never fails
	from = int(hash.Sum32() % Accounts)
	to = (from + 1 + int(version%(Accounts-1))) % Accounts
	return from, to, 1 + version%5
}

// Kinds of poison, in column kind of table poison. The message fails for as long as the row is there.
const (
	Permanent = "permanent" // the handler says that it can never be handled
	Transient = "transient" // it fails and does not say why
	Panic     = "panic"
	Crash     = "crash"    // the process ends with SIGKILL
	Hang      = "hang"     // the handler returns once its context ends
	Deaf      = "deaf"     // the handler does not return
	Flaky     = "flaky"    // it fails twice in each process, and then it works
	BadData   = "bad-data" // a statement fails: the transaction is broken
)
