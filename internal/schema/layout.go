package schema

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/preflight"
	migrations "github.com/outbox-relay/relay/sql"
)

// Layout is how the rows of the outbox are stored.
type Layout string

// The layouts of the outbox.
const (
	// Plain is one table, of which published rows are deleted.
	Plain Layout = "plain"
	// Partitioned is a table partitioned by ranges of id, of which whole partitions are dropped.
	Partitioned Layout = "partitioned"
)

// Layouts are the names of all layouts.
var Layouts = []string{string(Plain), string(Partitioned)}

// LayoutSteps returns the steps from the plain to the partitioned layout, in their order.
func LayoutSteps() []Migration {
	return wrap(migrations.Partitioned())
}

// Layout returns the layout of the outbox; Plain if there is none yet.
func (m *Migrator) Layout(ctx context.Context) (Layout, error) {
	taken, err := m.layoutSteps(ctx)
	if taken == len(LayoutSteps()) {
		return Partitioned, err
	}
	return Plain, err
}

// layoutSteps returns how many of the steps to the partitioned layout were taken. The objects
// themselves tell: the functions come with the first step, the partitioned table with the last, and
// the one between changes nothing.
func (m *Migrator) layoutSteps(ctx context.Context) (int, error) {
	var partitioned, functions bool
	table := pgx.Identifier{m.schema, "outbox"}.Sanitize()
	function := pgx.Identifier{m.schema, "outbox_partitions"}.Sanitize() + "()"
	err := m.conn.QueryRow(ctx, `SELECT coalesce((SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)), false),
		to_regprocedure($2) IS NOT NULL`, table, function).Scan(&partitioned, &functions)
	switch {
	case err != nil:
		return 0, fmt.Errorf("look at the layout of the outbox: %w", preflight.Explain(err))
	case partitioned:
		return len(LayoutSteps()), nil
	case functions:
		return 1, nil
	}
	return 0, nil
}

// PlanLayout returns the steps that Arrange would take.
func (m *Migrator) PlanLayout(ctx context.Context, want Layout) ([]Migration, error) {
	taken, err := m.layoutSteps(ctx)
	if err != nil {
		return nil, err
	}
	steps := LayoutSteps()
	if want == Partitioned {
		return steps[taken:], nil
	}
	steps = steps[:taken]
	slices.Reverse(steps)
	return steps, nil
}

// Arrange brings the outbox into a layout and calls done after each step, which is a transaction of
// its own. What was taken before an error stays, and the next call goes on from there. New
// partitions hold rows ids each; 0 leaves that to the script, and a table that is partitioned
// already keeps its own number.
func (m *Migrator) Arrange(ctx context.Context, want Layout, rows int, done func(Migration)) error {
	return m.locked(ctx, func() error {
		plan, err := m.PlanLayout(ctx, want)
		if err != nil {
			return err
		}
		if rows > 0 {
			if _, err := m.conn.Exec(ctx, `SELECT set_config('outbox.partition_rows', $1::text, false)`, fmt.Sprint(rows)); err != nil {
				return fmt.Errorf("set the rows of a partition: %w", err)
			}
		}
		for _, step := range plan {
			text := step.Up
			if want == Plain {
				text = step.Down
			}
			if _, err := m.conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
				return fmt.Errorf("layout %s, step %s: %w", want, step, explainRun(err))
			}
			done(step)
		}
		return nil
	})
}
