package inbox

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
)

// otherLanguage is an example's SQL, as it is in its source.
type otherLanguage struct {
	name, consumer, table, effect, sum string
}

// otherLanguages reads the statements of the examples in Java and Python, with the parameters in
// the form of pgx: $1 is the type of the event and $2 its payload.
func otherLanguages(t *testing.T) []otherLanguage {
	t.Helper()
	java := source(t, "../../examples/java/src/main/java/Loyalty.java")
	python := source(t, "../../examples/python/sales.py")
	javaEffect := strings.NewReplacer("CASE ?", "CASE $1::text", "convert_from(?", "convert_from($2").Replace(between(t, java, "EFFECT = \"\"\"", "\"\"\""))
	sign := "(CASE $1::text WHEN 'OrderPlaced' THEN 1 ELSE -1 END)"
	pythonEffect := strings.NewReplacer("%(sign)s", sign, "%(payload)s", "$2").Replace(between(t, python, "EFFECT = \"\"\"", "\"\"\""))
	for _, text := range []string{java, python} {
		if !regexp.MustCompile(`SELECT inbox_accept\((\?, \?, \?|%s, %s, %s)\)`).MatchString(text) {
			t.Fatal("an example does not call inbox_accept any more")
		}
	}
	return []otherLanguage{
		{"java", "loyalty", between(t, java, "TABLE = \"\"\"", "\"\"\""), javaEffect, "SELECT coalesce(sum(points), 0)::bigint FROM loyalty_points"},
		{"python", "sales", between(t, python, "TABLE = \"\"\"", "\"\"\""), pythonEffect, "SELECT coalesce(sum(cents), 0)::bigint FROM sales"},
	}
}

func source(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func between(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, begin)
	inner, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("there is no %q in the example any more", begin)
	}
	return inner
}

func (l otherLanguage) payload(order int) []byte {
	return fmt.Appendf(nil, `{"order": %d, "customer": "ada", "cents": 12300, "at": "2026-03-04T23:30:00-05:00"}`, order)
}

// handle does what the examples do with one message.
func (l otherLanguage) handle(ctx context.Context, conn *pgx.Conn, source, id, kind string, payload []byte) (fresh bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT inbox_accept($1, $2, $3)", l.consumer, source, id).Scan(&fresh); err != nil || !fresh {
			return err
		}
		_, err := tx.Exec(ctx, l.effect, kind, payload)
		return err
	})
	return fresh, err
}

func TestTheSQLOfTheOtherLanguagesHandlesEachMessageOnce(t *testing.T) {
	for _, l := range otherLanguages(t) {
		t.Run(l.name, func(t *testing.T) {
			url := kit.InboxDatabase(t)
			kit.Execute(t, url, l.table)
			conn := kit.Connect(t, url)
			one := map[string]int64{"java": 123, "python": 12300}[l.name]
			for n, step := range []struct {
				source, id, kind string
				payload          []byte
				fresh, fails     bool
				sum              int64
			}{
				{"shop", "1", "OrderPlaced", l.payload(1), true, false, one},
				{"shop", "1", "OrderPlaced", l.payload(1), false, false, one},
				{"other shop", "1", "OrderPlaced", l.payload(1), true, false, 2 * one},
				{"shop", "2", "OrderCancelled", l.payload(1), true, false, one},
				{"shop", "3", "OrderPlaced", []byte("no JSON"), true, true, one},
				{"shop", "3", "OrderPlaced", l.payload(3), true, false, 2 * one}, // the failure left no mark
				{"shop", "3", "OrderPlaced", l.payload(3), false, false, 2 * one},
				{"", "4", "OrderPlaced", l.payload(4), false, true, 2 * one},
			} {
				fresh, err := l.handle(t.Context(), conn, step.source, step.id, step.kind, step.payload)
				if fresh != step.fresh || (err != nil) != step.fails {
					t.Errorf("step %d: fresh %t, %v", n, fresh, err)
				}
				var sum int64
				if err := conn.QueryRow(t.Context(), l.sum).Scan(&sum); err != nil || sum != step.sum {
					t.Errorf("step %d: the sum is %d, want %d; %v", n, sum, step.sum, err)
				}
			}
		})
	}
}

// A second process that handles the same message waits for the first, and learns how it ended.
func TestASecondProcessWaitsForTheFirstInSQL(t *testing.T) {
	for _, l := range otherLanguages(t) {
		for end, fresh := range map[string]bool{"COMMIT": false, "ROLLBACK": true} {
			t.Run(l.name+" "+end, func(t *testing.T) {
				url := kit.InboxDatabase(t)
				kit.Execute(t, url, l.table)
				first, second, watcher := kit.Connect(t, url), kit.Connect(t, url), kit.Connect(t, url)
				if _, err := first.Exec(t.Context(), "BEGIN"); err != nil {
					t.Fatal(err)
				}
				if _, err := first.Exec(t.Context(), "SELECT inbox_accept($1, 'shop', '1')", l.consumer); err != nil {
					t.Fatal(err)
				}
				type outcome struct {
					fresh bool
					err   error
				}
				ended := make(chan outcome, 1)
				go func() {
					fresh, err := l.handle(t.Context(), second, "shop", "1", "OrderPlaced", l.payload(1))
					ended <- outcome{fresh, err}
				}()
				kit.Eventually(t, 30*time.Second, "the second waits", func() bool {
					var waiting bool
					err := watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)", second.PgConn().PID()).Scan(&waiting)
					return err == nil && waiting
				})
				if _, err := first.Exec(t.Context(), end); err != nil {
					t.Fatal(err)
				}
				if got := <-ended; got.err != nil || got.fresh != fresh {
					t.Errorf("fresh %t, want %t; %v", got.fresh, fresh, got.err)
				}
			})
		}
	}
}
