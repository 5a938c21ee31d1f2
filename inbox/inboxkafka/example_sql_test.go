package inboxkafka_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxsql"
)

// With database/sql the inbox comes from inboxsql.New, and the handler gets a *sql.Tx. All else is
// the same.
func Example_databaseSQL() {
	databaseURL, brokers := start()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, err := sql.Open("pgx", databaseURL) // with the driver of github.com/jackc/pgx/v5/stdlib
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	produce(brokers, transfer("m-1", "alice", "bob", 30), transfer("m-2", "alice", "bob", 10), transfer("m-1", "alice", "bob", 30))

	in, err := inboxsql.New(db, &inbox.Config{Consumer: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	note := func(ctx context.Context, tx *sql.Tx, m inbox.Message) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO effects (msg) VALUES ($1)", m.ID)
		return err
	}
	consumer, err := inboxkafka.New(in, inboxkafka.Handle(note), &inboxkafka.Config{
		Brokers: brokers,
		Topics:  []string{"transfers"},
		Hooks:   stopAfter(3, stop), // so that the example ends
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := consumer.Run(ctx); err != nil {
		fmt.Println(err)
		return
	}

	var effects string
	if err := db.QueryRow("SELECT string_agg(msg, ' ' ORDER BY id) FROM effects").Scan(&effects); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(effects)
	// Output: m-1 m-2
}
