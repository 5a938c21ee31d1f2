package victim

import (
	"fmt"
	"hash/fnv"
)

// Accounts is how many accounts there are; each begins with nothing.
const Accounts = 500

// Tables makes the tables of the service. None of them keeps an effect from happening twice: a
// table effect without any unique constraint, accounts, and for each key a count of its effects
// under its row lock, so that place is the order in which effects of a key were committed.
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

// Kinds of poison, in column kind of table poison. The message fails for as long as the row is
// there.
const (
	Permanent = "permanent" // the handler says that it can never be handled
	Transient = "transient" // it fails and does not say why
	Panic     = "panic"
	Crash     = "crash"    // the process ends with SIGKILL
	Hang      = "hang"     // the handler returns once its context ends
	Deaf      = "deaf"     // the handler does not return
	Flaky     = "flaky"    // it fails twice in each process, and then it works
	BadData   = "bad-data" // a statement fails: the transaction is broken

	// A handler with its own fault that looks like success, or like the fault of the server.
	Careless   = "careless"   // it waits past its deadline, and returns nil with half of the effect
	Swallowing = "swallowing" // a statement fails, and it returns nil
	Overloaded = "overloaded" // a statement fails with a SQLSTATE of a server that is short of something, 53400
	Unreached  = "unreached"  // the same with one of a connection that fails, 08006
	Unadmitted = "unadmitted" // the same with one of a login that is refused, 28000
	Stopping   = "stopping"   // the same with one of a server that shuts down, 57P01
)

// raised are the SQLSTATEs that kinds of poison raise in the handler's transaction, on a connection
// that goes on living.
var raised = map[string]string{Overloaded: "53400", Unreached: "08006", Unadmitted: "28000", Stopping: "57P01"}

// Kinds are all kinds of poison that a message recovers from once its row of table poison is gone.
func Kinds() []string {
	return []string{
		Permanent, Transient, Panic, Crash, Hang, Deaf, Flaky, BadData,
		Careless, Swallowing, Overloaded, Unreached, Unadmitted, Stopping,
	}
}
