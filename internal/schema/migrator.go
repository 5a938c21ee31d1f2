package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-migrate/migrate/v4"
	driver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/preflight"
)

// lockTimeout bounds the wait for a table that others use, because every session that wants the
// table next queues behind the one who waits, and that would be every business transaction that
// writes an event.
const lockTimeout = "5s"

// Migrator works on the first schema of the search_path of one database. Use it from one goroutine.
type Migrator struct {
	conn      *pgx.Conn
	component Component
	all       []Migration
	schema    string
}

// Open connects to the database for the tables of the outbox: Outbox.Open.
func Open(ctx context.Context, databaseURL string, timeout time.Duration) (*Migrator, error) {
	return Outbox.Open(ctx, databaseURL, timeout)
}

// Open connects to the database, waiting up to timeout for it to answer. Close the Migrator after
// use. Errors are explained and hold no secrets.
func (c Component) Open(ctx context.Context, databaseURL string, timeout time.Duration) (*Migrator, error) {
	// In the first schema of the search_path, whichever holds tables of the same names.
	conn, err := preflight.ConnectFor(ctx, databaseURL, timeout, pg.Options{
		Application: "relay migrate", Settings: map[string]string{"lock_timeout": lockTimeout}, AnyEncoding: c.anyEncoding,
	})
	if err != nil {
		return nil, err
	}
	m := &Migrator{conn: conn, component: c, all: c.Migrations()}
	if err := m.findSchema(ctx); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

// Close ends the connection.
func (m *Migrator) Close(ctx context.Context) error {
	return m.conn.Close(context.WithoutCancel(ctx))
}

// findSchema finds out where objects are created.
func (m *Migrator) findSchema(ctx context.Context) error {
	var schema *string
	var path string
	err := m.conn.QueryRow(ctx, "SELECT current_schema(), current_setting('search_path')").Scan(&schema, &path)
	if err != nil {
		return fmt.Errorf("read the search_path: %w", preflight.Explain(err))
	}
	if schema == nil {
		return hint.New(fmt.Sprintf("no schema of the search_path (%s) exists, or none may be used", path),
			"CREATE SCHEMA name; then --schema name")
	}
	m.schema = *schema
	return nil
}

// Component returns the set of tables that is worked on.
func (m *Migrator) Component() Component { return m.component }

// Schema returns the schema that is worked on.
func (m *Migrator) Schema() string { return m.schema }

// Exposed returns who else than the user of the connection may create objects in the schema; nil if
// no role may.
func (m *Migrator) Exposed(ctx context.Context) (*preflight.Exposure, error) {
	var user string
	if err := m.conn.QueryRow(ctx, "SELECT current_user").Scan(&user); err != nil {
		return nil, fmt.Errorf("look up the role: %w", preflight.Explain(err))
	}
	return preflight.Exposed(ctx, m.conn, m.schema, user)
}

// Status is a migration and whether it is in the schema.
type Status struct {
	Migration
	Applied bool
}

// Status returns every migration in order. It changes nothing. Its error is a *DirtyError if a
// migration was cut short.
func (m *Migrator) Status(ctx context.Context) ([]Status, error) {
	version, err := m.version(ctx)
	if err != nil {
		return nil, err
	}
	var all []Status
	for _, migration := range m.all {
		all = append(all, Status{migration, migration.Version <= version})
	}
	return all, nil
}

// version returns the number of the last migration that is in the schema, 0 for none. It does not
// create the table of versions.
func (m *Migrator) version(ctx context.Context) (uint, error) {
	table := pgx.Identifier{m.schema, m.component.VersionTable}.Sanitize()
	var exists bool
	if err := m.conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&exists); err != nil {
		return 0, fmt.Errorf("look for %s: %w", m.component.VersionTable, preflight.Explain(err))
	}
	if !exists {
		return 0, nil
	}
	var version int64 // -1 is golang-migrate's word for none
	var dirty bool
	err := m.conn.QueryRow(ctx, "SELECT version, dirty FROM "+table).Scan(&version, &dirty)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", m.component.VersionTable, preflight.Explain(err))
	case dirty:
		return 0, dirtyError(table, version)
	case version > int64(m.all[len(m.all)-1].Version):
		return 0, hint.New(fmt.Sprintf("the schema is at migration %d, which this relay does not know (it knows %d)",
			version, len(m.all)), "run the newer version of relay that made it")
	}
	return uint(max(0, version)), nil
}

// PlanUp returns the migrations that Up would apply, in order.
func (m *Migrator) PlanUp(ctx context.Context) ([]Migration, error) {
	version, err := m.version(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(m.all), func(x Migration) bool { return x.Version <= version }), nil
}

// PlanDown returns the migrations that Down would take out, in order; steps < 0 means all of them.
func (m *Migrator) PlanDown(ctx context.Context, steps int) ([]Migration, error) {
	version, err := m.version(ctx)
	if err != nil {
		return nil, err
	}
	applied := slices.DeleteFunc(slices.Clone(m.all), func(x Migration) bool { return x.Version > version })
	slices.Reverse(applied)
	if steps >= 0 && steps < len(applied) {
		applied = applied[:steps]
	}
	return applied, nil
}

// Up applies every pending migration and calls done after each. What was applied before an error
// stays.
func (m *Migrator) Up(ctx context.Context, done func(Migration)) error {
	return m.locked(ctx, func() error {
		plan, err := m.PlanUp(ctx)
		if err != nil {
			return err
		}
		return m.run(ctx, plan, 1, true, done)
	})
}

// Down takes migrations out, newest first, and calls done after each; steps < 0 means all of them.
// If that would delete rows it returns a *LossError and changes nothing, unless allowLoss is
// set.
func (m *Migrator) Down(ctx context.Context, steps int, allowLoss bool, done func(Migration)) error {
	return m.locked(ctx, func() error {
		plan, err := m.PlanDown(ctx, steps)
		if err != nil {
			return err
		}
		if !allowLoss {
			if err := m.checkLoss(ctx, plan); err != nil {
				return err
			}
		}
		return m.run(ctx, plan, -1, allowLoss, done)
	})
}

// locked runs work while no other Migrator of this schema runs its own.
func (m *Migrator) locked(ctx context.Context, work func() error) (err error) {
	key := m.component.lockName + " " + m.schema
	if _, err := m.conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", key); err != nil {
		return fmt.Errorf("wait for another migration: %w", explainRun(err))
	}
	defer func() {
		_, unlockErr := m.conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtextextended($1, 0))", key)
		err = errors.Join(err, unlockErr)
	}()
	return work()
}

// run steps through the plan in one direction.
func (m *Migrator) run(ctx context.Context, plan []Migration, step int, allowLoss bool, done func(Migration)) (err error) {
	if len(plan) == 0 {
		return nil
	}
	engine, err := m.engine(allowLoss)
	if err != nil {
		return err
	}
	defer func() {
		sourceErr, databaseErr := engine.Close()
		err = errors.Join(err, sourceErr, databaseErr)
	}()
	for _, migration := range plan {
		if err := ctx.Err(); err != nil {
			return err
		}
		before, _, err := engine.Version()
		if errors.Is(err, migrate.ErrNilVersion) {
			before = 0
		} else if err != nil {
			return fmt.Errorf("read %s: %w", m.component.VersionTable, err)
		}
		if err := engine.Steps(step); err != nil {
			return fmt.Errorf("migration %s: %w", migration, errors.Join(explainRun(err), m.settle(engine, before, err)))
		}
		done(migration)
	}
	return nil
}

// settle takes the mark "cut short" away if Postgres itself refused the migration: then it has
// also rolled it back.
func (m *Migrator) settle(engine *migrate.Migrate, before uint, cause error) error {
	if !refused(cause) {
		return nil
	}
	version := int(before)
	if version == 0 {
		version = -1 // golang-migrate's word for none
	}
	if err := engine.Force(version); err != nil {
		return fmt.Errorf("set %s back to %d: %w", m.component.VersionTable, version, err)
	}
	return nil
}

func (m *Migrator) engine(allowLoss bool) (*migrate.Migrate, error) {
	source, err := newSource(m.component, allowLoss)
	if err != nil {
		return nil, err
	}
	cfg := m.conn.Config()
	db := stdlib.OpenDB(*cfg)
	target, err := driver.WithInstance(db, &driver.Config{MigrationsTable: m.component.VersionTable, SchemaName: m.schema})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", m.component.VersionTable, explainRun(err)), source.Close(), db.Close())
	}
	engine, err := migrate.NewWithInstance("files", source, "postgres", target)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the migrations: %w", err), source.Close(), target.Close())
	}
	return engine, nil
}
