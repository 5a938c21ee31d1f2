package outboxsql_test

import (
	"context"
	"database/sql"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"; "github.com/lib/pq" serves as well

	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/internal/exampledb"
	"github.com/outbox-relay/relay/outbox/outboxsql"
)

// pay marks an order as paid and writes the event, in one transaction.
func pay(ctx context.Context, db *sql.DB, order string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	if _, err := tx.ExecContext(ctx, "UPDATE orders SET state = 'paid' WHERE id = $1", order); err != nil {
		return err
	}
	if _, err := outboxsql.Insert(ctx, tx, outbox.Message{
		AggregateType: "order", AggregateID: order, Type: "OrderPaid", Payload: []byte(`{"paid":true}`),
	}); err != nil {
		return err
	}
	return tx.Commit()
}

// With database/sql, through any Postgres driver.
func ExampleInsert() {
	ctx := context.Background()
	db, err := sql.Open("pgx", exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()

	if err := pay(ctx, db, "42"); err != nil {
		fmt.Println(err)
		return
	}
	var payload []byte
	if err := db.QueryRowContext(ctx, "SELECT payload FROM outbox").Scan(&payload); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", payload)
	// Output: {"paid":true}
}
