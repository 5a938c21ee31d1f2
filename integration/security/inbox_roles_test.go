package security

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/operator"
	migrations "github.com/outbox-relay/relay/sql"
)

// inboxRoles is a database whose inbox is in its own schema, in which no other role may execute a
// function unasked, with the roles.
type inboxRoles struct {
	t     *testing.T
	conn  *pgx.Conn
	url   string
	roles []string
}

func newInboxRoles(t *testing.T) inboxRoles {
	t.Helper()
	r := inboxRoles{t: t, url: inSchema(t, kit.EmptyDatabase(t), "events"), roles: []string{"inbox_consumer", "inbox_operator"}}
	kit.Execute(t, r.url, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; CREATE SCHEMA events")
	kit.MigrateInbox(t, r.url)
	r.conn = kit.Connect(t, r.url)
	rolesEndWithTheTest(t, r.conn, r.roles...)
	kit.Script(t, r.conn, "BEGIN;"+migrations.InboxRoles+"COMMIT")
	kit.Script(t, r.conn, "GRANT UPDATE, TRUNCATE ON inbox TO inbox_consumer; GRANT EXECUTE ON FUNCTION inbox_weeks() TO inbox_operator")
	for _, statement := range kit.SplitAsPsql(migrations.InboxRoles) {
		kit.Script(t, r.conn, statement)
	}
	return r
}

// consumeAll is everything that a consumer does, as the login of the URL.
func consumeAll(ctx context.Context, url string) (err error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		return err
	}
	loop := inboxloop.New(in)
	keep := func(_ any, fault error) { err = errors.Join(err, fault) }
	fine := func(context.Context, pgx.Tx) error { return nil }
	message := func() inbox.Message {
		return inbox.Message{ID: uuid.NewString(), Source: "shop", Topic: "orders", Key: []byte(uuid.NewString()), Headers: []inbox.Header{{Name: "h"}}}
	}
	keep(in.Handle(ctx, message(), fine))
	outcomes, fault := in.HandleBatch(ctx, []inbox.Message{message(), message()}, func(context.Context, pgx.Tx, []inbox.Message) error { return nil })
	keep(nil, fault)
	for _, o := range outcomes {
		keep(nil, o.Err)
	}
	keep(loop.Seen(ctx, []inbox.Message{message()}))
	started := message()
	for range 2 {
		keep(loop.Start(ctx, []inbox.Message{started}))
	}
	keep(in.Handle(ctx, started, fine))
	keep(loop.Open(ctx, "orders", 0))
	keep(loop.Open(ctx, "orders", 0))
	now, fault := loop.Incarnation(ctx)
	keep(nil, fault)
	keep(nil, loop.Flush(ctx, now))
	keep(nil, loop.Close(ctx, "orders", 0))
	keep(nil, atMostOnce(ctx, in, message))
	keep(nil, parkAndRetry(ctx, in, pool, message()))
	keep(nil, in.Retain(ctx, time.Hour))
	keep(in.Sweep(ctx))
	var fresh bool
	keep(nil, pool.QueryRow(ctx, "SELECT inbox_accept('billing', 'shop', $1)", uuid.NewString()).Scan(&fresh))
	return err
}

// atMostOnce claims, fails with an unknown outcome, sees it again, and releases.
func atMostOnce(ctx context.Context, in *inbox.Inbox[pgx.Tx], message func() inbox.Message) error {
	lost, unknown := message(), errors.New("no answer")
	_, err := in.AtMostOnce(ctx, message(), func(context.Context) error { return nil })
	if _, failed := in.AtMostOnce(ctx, lost, func(context.Context) error { return unknown }); failed.Error() != "effect of message "+
		lost.ID+" of shop: no answer" {
		err = errors.Join(err, failed)
	}
	result, again := in.AtMostOnce(ctx, lost, func(context.Context) error { return nil })
	if result != inbox.Audited {
		err = errors.Join(err, again, fmt.Errorf("seen again: %v", result))
	}
	released := message()
	if _, failed := in.AtMostOnce(ctx, released, func(context.Context) error { return inbox.NotDone(unknown) }); failed.Error() !=
		"effect of message "+released.ID+" of shop: no answer" {
		err = errors.Join(err, failed)
	}
	return err
}

// parkAndRetry parks two messages of one key, and handles them after a retry that fails first.
// Somebody else asks for the retries.
func parkAndRetry(ctx context.Context, in *inbox.Inbox[pgx.Tx], pool *pgxpool.Pool, m inbox.Message) (err error) {
	loop := inboxloop.New(in)
	if _, err := in.Park(ctx, m, inbox.CausePermanent, 1, errors.New("no such account")); err != nil {
		return err
	}
	behind := m
	behind.ID = uuid.NewString()
	if result, err := in.Handle(ctx, behind, func(context.Context, pgx.Tx) error { return nil }); err != nil || result != inbox.Parked {
		return errors.Join(err, fmt.Errorf("behind a parked message: %v", result))
	}
	ask := func() (keys []inboxloop.ParkedKey) {
		// The consumer may write what it takes away again; it does not ask by itself.
		_, fault := pool.Exec(ctx, "UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'x', reason = 'x' WHERE key = $1", m.Key)
		keys, more := loop.Requested(ctx, 10)
		err = errors.Join(err, fault, more)
		return keys
	}
	for _, key := range ask() {
		err = errors.Join(err, loop.RetryFailed(ctx, key, errors.New("again")))
	}
	for _, key := range ask() {
		for left := true; left && err == nil; {
			done, fault := loop.Retry(ctx, key, func(context.Context, pgx.Tx, inbox.Message) error { return nil })
			left, err = done.Left, fault
		}
	}
	return err
}

// operateInbox is everything that a person does, as the login of the URL; owner parks messages
// before.
func operateInbox(ctx context.Context, t *testing.T, owner *pgx.Conn, url string) (err error) {
	t.Helper()
	kit.Script(t, owner, `
DELETE FROM inbox_parked; DELETE FROM inbox_parked_keys; DELETE FROM inbox_claims; DELETE FROM inbox; DELETE FROM inbox_started; DELETE FROM inbox_sessions;
INSERT INTO inbox_parked_keys (consumer, topic, key) VALUES ('billing', 'orders', '1'), ('billing', 'orders', '2');
INSERT INTO inbox_parked (key_id, source, msg_id, type, partition, "offset", header_names, header_values, cause)
    SELECT id, 'shop', 'parked ' || id, 'Placed', 0, 1, '{}', '{}', 'permanent' FROM inbox_parked_keys;
INSERT INTO inbox (consumer, source, msg_id) SELECT 'billing', 'shop', inbox_key(id) FROM unnest(ARRAY['1', 'claimed', 'lost']) AS id;
INSERT INTO inbox_claims (consumer, source, msg_id, instance) SELECT 'billing', 'shop', inbox_key(id), 'x' FROM unnest(ARRAY['claimed', 'lost']) AS id`)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	keep := func(_ any, fault error) { err = errors.Join(err, fault) }
	person := operator.NewInbox(conn)
	keep(person.List(ctx, operator.InboxFilter{}))
	keep(person.Show(ctx, operator.InboxFilter{Key: []byte("1")}, 0))
	asked, fault := person.Retry(ctx, operator.InboxFilter{Key: []byte("1")}, "mended")
	keep(nil, fault)
	keep(person.Idle(ctx, asked))
	keep(person.Discard(ctx, operator.InboxFilter{Key: []byte("2")}, "test data", time.Second))
	keep(person.Claims(ctx, "", "", 0, 0))
	keep(nil, person.Settle(ctx, "billing", "shop", "lost", operator.NotDone, "never sent"))
	selection := operator.Selection{Consumer: "billing", Claimed: true}
	plan, fault := person.PlanForget(ctx, selection)
	keep(nil, fault)
	keep(person.Forget(ctx, selection, plan, "wrong tax"))
	keep(person.Consumers(ctx))
	pool, fault := pgxpool.New(ctx, url)
	if fault != nil {
		return errors.Join(err, fault)
	}
	defer pool.Close()
	in, fault := inbox.New(pool, &inbox.Config{Consumer: "sweep"})
	if fault != nil {
		return errors.Join(err, fault)
	}
	keep(in.Sweep(ctx))
	// For people who look with psql.
	keep(conn.Exec(ctx, "SELECT count(*) FROM inbox_started"))
	keep(conn.Exec(ctx, "SELECT count(*) FROM inbox_retentions"))
	return err
}

// Each grant of the file is needed: without it something fails for which the role is there. Grants
// are those of a database, so several databases share the work.
func TestEveryGrantOfTheInboxIsNeeded(t *testing.T) {
	t.Parallel()
	var databases [4]inboxRoles
	for i := range databases {
		databases[i] = newInboxRoles(t)
	}
	for i, r := range databases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for role, work := range map[string]func(url string) error{
				"inbox_consumer": func(url string) error { return consumeAll(t.Context(), url) },
				"inbox_operator": func(url string) error { return operateInbox(t.Context(), t, r.conn, url) },
			} {
				url := login(t, r.url, role, "s3cret")
				if err := work(url); err != nil {
					t.Errorf("%s: %v", role, err)
				}
				held := privileges(t, r.conn, role)
				if len(held) < 20 {
					t.Errorf("%s holds %d privileges", role, len(held))
				}
				for n := i; n < len(held); n += len(databases) {
					grant := grantOf(held[n], role)
					kit.Script(t, r.conn, "REVOKE "+grant+" FROM "+role)
					if err := work(url); err == nil || !isDenied(err) {
						t.Errorf("without %s everything works as before (%v)", grant, err)
					}
					kit.Script(t, r.conn, "GRANT "+grant+" TO "+role)
				}
			}
		})
	}
}

// isDenied reports whether an error, or one of those joined to it, is that of a missing right; the
// words are those of Postgres in English.
func isDenied(err error) bool {
	text := err.Error()
	return strings.Contains(text, "permission denied") || strings.Contains(text, "does not exist") // without the schema nothing in it does
}

// grantOf turns what the server says of a privilege, such as "INSERT key table inbox_audit
// inbox_consumer", into what stands between GRANT and TO.
func grantOf(privilege, role string) string {
	words := strings.Fields(strings.TrimSuffix(privilege, " "+role))
	at := slices.IndexFunc(words, func(w string) bool { return w == "table" || w == "function" || w == "schema" })
	column, object := strings.Join(words[1:at], " "), strings.Join(words[at+1:], " ")
	grant := words[0]
	if column != "" {
		grant += fmt.Sprintf(" (%q)", column)
	}
	switch words[at] {
	case "schema":
		return grant + " ON SCHEMA events"
	case "function":
		return grant + " ON FUNCTION " + object
	}
	return grant + " ON " + object
}

// What rests on a consumer's not being able to say it.
func TestRolesOfTheInboxCanForgeNothing(t *testing.T) {
	t.Parallel()
	r := newInboxRoles(t)
	for role, forbidden := range map[string][]string{
		"inbox_consumer": {
			"INSERT INTO inbox (consumer, source, msg_id, handled_at) VALUES ('a', 'b', gen_random_uuid(), 'epoch')",
			"UPDATE inbox SET handled_at = 'epoch'", "TRUNCATE inbox", "TRUNCATE inbox_past", "SELECT FROM inbox_past", "DROP TABLE inbox_past",
			"INSERT INTO inbox_consumers (consumer, retention) VALUES ('a', '1 s')", "UPDATE inbox_sweeps SET next_block = 0",
			"SELECT id FROM inbox_audit", "DELETE FROM inbox_audit", "INSERT INTO inbox_audit (consumer, action, by) VALUES ('a', 'forget', 'ada')",
			"UPDATE inbox_parked SET payload = ''", "UPDATE inbox_parked_keys SET key = ''", "SELECT inbox_weeks()", "SELECT inbox_try_sweep()",
			"CREATE TABLE x ()",
		},
		"inbox_operator": {
			"INSERT INTO inbox (consumer, source, msg_id) VALUES ('a', 'b', gen_random_uuid())", "UPDATE inbox SET handled_at = 'epoch'",
			"TRUNCATE inbox", "UPDATE inbox_parked SET payload = ''", "INSERT INTO inbox_claims (consumer, source, msg_id, instance) VALUES ('a', 'b', gen_random_uuid(), 'x')",
			"UPDATE inbox_audit SET by = 'ada'", "DELETE FROM inbox_audit", "INSERT INTO inbox_audit (consumer, action, by) VALUES ('a', 'forget', 'ada')",
			"SELECT inbox_retain('billing', '1 s')", "CREATE TABLE x ()",
		},
	} {
		for _, statement := range forbidden {
			if state := as(t, r.conn, role, statement); state != denied {
				t.Errorf("%s may %s (SQLSTATE %q)", role, statement, state)
			}
		}
	}
}
