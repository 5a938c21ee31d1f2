package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/preflight"
	"github.com/outbox-relay/relay/internal/schema"
)

// cleanUpTimeout bounds the removal of what a run has made, which a cancelled run does as well.
const cleanUpTimeout = time.Minute

// site is where a run works: its connections to the user's servers, and whatever it has made there.
type site struct {
	databaseURL string
	conn        *pgx.Conn
	admin       *kadm.Client // nil where only Postgres is needed
	made        []func(context.Context) error
}

// openSite connects to the servers; brokers may be nil.
func openSite(ctx context.Context, databaseURL string, timeout time.Duration, brokers []string, options []kgo.Opt) (*site, error) {
	conn, err := preflight.Connect(ctx, databaseURL, timeout)
	if err != nil {
		return nil, err
	}
	s := &site{databaseURL: databaseURL, conn: conn}
	if err := s.mayCreate(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if brokers == nil {
		return s, nil
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...)}, options...)...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("brokers: %w", err), s.close())
	}
	s.admin = kadm.NewClient(client)
	if err := reach(ctx, client, timeout, brokers); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// reach waits until a broker answers.
func reach(ctx context.Context, client *kgo.Client, timeout time.Duration, brokers []string) error {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := client.Ping(waiting); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return hint.Wrap(fmt.Errorf("no Kafka broker answers at %s within %v: %w", strings.Join(brokers, ", "), timeout, err),
			"check --brokers")
	}
	return nil
}

// mayCreate refuses a role that may not create a schema, before anything is made.
func (s *site) mayCreate(ctx context.Context) error {
	var may bool
	var role, database string
	err := s.conn.QueryRow(ctx, "SELECT has_database_privilege(current_database(), 'CREATE'), current_user, current_database()").
		Scan(&may, &role, &database)
	if err != nil {
		return fmt.Errorf("look up the rights of the role: %w", preflight.Explain(err))
	}
	if !may {
		return hint.Wrap(fmt.Errorf("role %s may not create a schema in database %s, and the bench works in its own", role, database),
			"GRANT CREATE ON DATABASE %s TO %s, or name another role or database in --database-url",
			pgx.Identifier{database}.Sanitize(), pgx.Identifier{role}.Sanitize())
	}
	return nil
}

// close removes what was made, newest first, and ends the connections. It works after the run was
// cancelled.
func (s *site) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	var errs []error
	for i := len(s.made) - 1; i >= 0; i-- {
		errs = append(errs, s.made[i](ctx))
	}
	if s.admin != nil {
		s.admin.Close()
	}
	return errors.Join(append(errs, s.conn.Close(ctx))...)
}

// onClose has remove called when the site is closed.
func (s *site) onClose(remove func(context.Context) error) { s.made = append(s.made, remove) }

// execute runs a statement on its own connection: the site's may be in the middle of a cancelled
// one.
func (s *site) execute(ctx context.Context, statement string) (err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%.40s…: %w", statement, preflight.Explain(err))
	}
	return nil
}

// place is an outbox of the bench's own, in its own schema, and a deployment of that name.
type place struct {
	name string // of the schema and of the deployment
	url  string
	conn *pgx.Conn
}

// newPlace makes a schema with the tables of the migrations. It is dropped when the site is closed.
func (s *site) newPlace(ctx context.Context, timeout time.Duration) (*place, error) {
	p := &place{name: "relay_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]}
	identifier := pgx.Identifier{p.name}.Sanitize()
	// Before the schema is made: an error may come from an answer that was lost.
	s.onClose(func(ctx context.Context) error { return s.execute(ctx, "DROP SCHEMA IF EXISTS "+identifier+" CASCADE") })
	if err := s.execute(ctx, "CREATE SCHEMA "+identifier); err != nil {
		return nil, err
	}
	p.url = config.WithSchema(s.databaseURL, p.name)
	migrator, err := schema.Open(ctx, p.url, timeout)
	if err != nil {
		return nil, err
	}
	err = migrator.Up(ctx, func(schema.Migration) {})
	if err = errors.Join(err, migrator.Close(ctx)); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	if p.conn, err = pgx.Connect(ctx, p.url); err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	s.onClose(p.conn.Close)
	if s.admin != nil {
		s.onClose(func(ctx context.Context) error { return s.forget(ctx, p.name) })
	}
	return p, nil
}

// forget removes what a relay of the deployment has left on the cluster. Its transactional ids
// expire by themselves.
func (s *site) forget(ctx context.Context, deployment string) error {
	err := s.deleteTopic(ctx, checkpoint.TopicName(deployment))
	// A relay that was killed stays a member until its session times out.
	groupErr := poll(ctx, 200*time.Millisecond, 20*time.Second, "group "+election.Group(deployment)+" is empty", func() (bool, error) {
		response, err := s.admin.DeleteGroup(ctx, election.Group(deployment))
		if err == nil {
			err = response.Err
		}
		switch {
		case err == nil || errors.Is(err, kerr.GroupIDNotFound):
			return true, nil
		case errors.Is(err, kerr.NonEmptyGroup):
			return false, nil
		}
		return false, fmt.Errorf("delete group %s: %w", election.Group(deployment), err)
	})
	return errors.Join(err, groupErr)
}

// newTopic makes a topic and returns once each partition has a leader. Call remove, or the topic
// goes with the site.
func (s *site) newTopic(ctx context.Context, partitions int32) (name string, remove func() error, err error) {
	name = "relay-bench-" + uuid.NewString()[:13]
	removed := false
	remove = func() error {
		if removed {
			return nil
		}
		removed = true
		ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
		defer cancel()
		return s.deleteTopic(ctx, name)
	}
	s.onClose(func(context.Context) error { return remove() })
	response, err := s.admin.CreateTopic(ctx, partitions, -1, nil, name)
	if err == nil {
		err = response.Err
	}
	if err != nil {
		err = fmt.Errorf("create topic %s: %w", name, err)
		if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
			err = hint.Wrap(err, "use a principal that may create and delete topics that begin with relay-bench- and relay.relay_bench_")
		}
		return "", nil, err
	}
	return name, remove, s.awaitLeaders(ctx, name, int(partitions))
}

func (s *site) deleteTopic(ctx context.Context, name string) error {
	response, err := s.admin.DeleteTopic(ctx, name)
	if err == nil {
		err = response.Err
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}

func (s *site) awaitLeaders(ctx context.Context, topic string, partitions int) error {
	return poll(ctx, 20*time.Millisecond, time.Minute, "every partition of "+topic+" has a leader", func() (bool, error) {
		details, err := s.admin.ListTopics(ctx, topic)
		if err != nil {
			return false, fmt.Errorf("look up topic %s: %w", topic, err)
		}
		led := 0
		for _, partition := range details[topic].Partitions {
			if partition.Err == nil && partition.Leader >= 0 {
				led++
			}
		}
		return led == partitions, nil
	})
}

// poll asks until the answer is yes.
func poll(ctx context.Context, every, limit time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		yes, err := ask()
		if err != nil || yes {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", limit, what)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
