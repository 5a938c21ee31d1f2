package outbox

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/outboxsql"
)

var placed = outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderPlaced", Payload: []byte("{}")}

// statementSpy counts round trips, and remembers the last.
type statementSpy struct {
	pgx.Tx
	count     int
	sql       string
	arguments []any
}

func (s *statementSpy) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	s.count++
	s.sql, s.arguments = sql, arguments
	return s.Tx.Exec(ctx, sql, arguments...)
}

func TestManyMessagesTakeOneStatement(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spy := &statementSpy{Tx: tx}
	messages := make([]outbox.Message, 1000)
	for i := range messages {
		messages[i] = placed
	}
	if _, err := outbox.Insert(t.Context(), spy, messages...); err != nil {
		t.Fatal(err)
	}
	if spy.count != 1 {
		t.Errorf("%d statements", spy.count)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows := outboxRows(t, conn); len(rows) != 1000 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestSavepointsKeepAndDropTheirMessages(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	message := func(kind string) outbox.Message {
		m := placed
		m.Type = kind
		return m
	}
	insert := func(tx pgx.Tx, kind string) {
		t.Helper()
		if _, err := outbox.Insert(t.Context(), tx, message(kind)); err != nil {
			t.Fatal(err)
		}
	}
	outer, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert(outer, "before")
	for _, kept := range []bool{true, false} {
		savepoint, err := outer.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		end, kind := savepoint.Commit, "released"
		if !kept {
			end, kind = savepoint.Rollback, "rolled back"
		}
		insert(savepoint, kind)
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := outbox.Insert(t.Context(), savepoint, message("too late")); !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("Insert in a savepoint that is over: %v", err)
		}
	}
	insert(outer, "after")
	if err := outer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range outboxRows(t, conn) {
		got = append(got, row.Type)
	}
	if len(got) != 3 || got[0] != "before" || got[1] != "released" || got[2] != "after" {
		t.Errorf("rows %q", got)
	}
	var transactions int
	if err := conn.QueryRow(t.Context(), "SELECT count(DISTINCT xact_id) FROM outbox").Scan(&transactions); err != nil || transactions != 1 {
		t.Errorf("the rows bear %d transaction ids, %v", transactions, err)
	}
}

func TestATransactionThatIsOverWritesNothing(t *testing.T) {
	url := kit.Database(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Insert(t.Context(), tx, placed); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Insert after the commit: %v", err)
	}
	if err := outbox.LockAggregate(t.Context(), tx, "order", "42"); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("LockAggregate after the commit: %v", err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	done, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := outboxsql.Insert(t.Context(), done, placed); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("outboxsql.Insert after the rollback: %v", err)
	}
	if rows := outboxRows(t, kit.Connect(t, url)); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestAnInvalidMessageLeavesTheTransactionUsable(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := outbox.Insert(t.Context(), tx, placed, outbox.Message{}); !errors.Is(err, outbox.ErrInvalid) {
			t.Errorf("Insert gave %v", err)
		}
		_, err := outbox.Insert(t.Context(), tx, placed)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows := outboxRows(t, conn); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestServerErrorsKeepTheirSQLState(t *testing.T) {
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := outbox.Insert(t.Context(), tx, placed)
		return err
	})
	const undefinedTable = "42P01"
	if kit.SQLState(err) != undefinedTable {
		t.Errorf("Insert without a table: %v", err)
	}
}

func TestBothLibrariesTakeTheSameLock(t *testing.T) {
	url := kit.Database(t)
	tx, err := kit.Connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.LockAggregate(t.Context(), tx, "order", "42"); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	locked := func(aggregateID string) error {
		second, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.ExecContext(t.Context(), "SET LOCAL lock_timeout = '50ms'"); err != nil {
			t.Fatal(err)
		}
		err = outboxsql.LockAggregate(t.Context(), second, "order", aggregateID)
		return errors.Join(err, second.Rollback())
	}
	if err := locked("42"); err == nil {
		t.Error("the aggregate is held twice")
	}
	if err := locked("43"); err != nil {
		t.Errorf("another aggregate: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := locked("42"); err != nil {
		t.Errorf("after the rollback: %v", err)
	}
}
