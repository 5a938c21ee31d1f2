package inboxsql_test

import (
	"context"
	"database/sql"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxsql"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
)

// A handler gets the *sql.Tx in which the mark of its message is written. Both commit, or neither.
func Example() {
	db, err := sql.Open("pgx", exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	in, err := inboxsql.New(db, &inbox.Config{Consumer: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	message := inbox.Message{ID: "payment-1", Source: "shop", Topic: "payments", Key: []byte("alice")}
	for range 2 {
		result, err := in.Handle(context.Background(), message, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance - 30 WHERE id = 'alice'")
			return err
		})
		fmt.Println(result, err)
	}
	var balance int
	if err := db.QueryRow("SELECT balance FROM accounts WHERE id = 'alice'").Scan(&balance); err != nil {
		fmt.Println(err)
	}
	fmt.Println("alice has", balance)
	// Output:
	// processed <nil>
	// duplicate <nil>
	// alice has 70
}
