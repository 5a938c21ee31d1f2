//go:build bench

package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/integration/connect"
)

// debeziumContender is Debezium's connector and its outbox event router on one worker of Kafka
// Connect, exactly once.
type debeziumContender struct {
	outbox
	worker    map[string]string // settings beyond those that must be
	connector map[string]string
	password  string // of its role, which has its name
	running   *connect.Worker
}

// tuned makes of Debezium and Connect what they can be: short polls, large batches, the relay's
// codec, a short session.
func (d *debeziumContender) tuned() *debeziumContender {
	d.worker = map[string]string{
		"session.timeout.ms": "3000", "heartbeat.interval.ms": "1000", "scheduled.rebalance.max.delay.ms": "0",
	}
	d.connector = map[string]string{
		"poll.interval.ms": "10", "max.batch.size": "20000", "max.queue.size": "80000",
		"producer.override.linger.ms": "0", "producer.override.batch.size": "1048576",
		"producer.override.buffer.memory": "134217728", "producer.override.compression.type": "lz4",
		// A worker that starts again reads its offsets, and waits for the transaction that a killed one
		// has left open.
		"producer.override.transaction.timeout.ms": "10000",
		"statistics.metrics.enabled":               "false",
	}
	return d
}

// settings are those of the connector. The outbox event router finds its columns by the names of
// the migrations, and a row goes to the topic that it names.
func (d *debeziumContender) settings() (map[string]string, error) {
	u, err := url.Parse(d.url)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"connector.class":                             "io.debezium.connector.postgresql.PostgresConnector",
		"tasks.max":                                   "1",
		"exactly.once.support":                        "required",
		"database.hostname":                           u.Hostname(),
		"database.port":                               u.Port(),
		"database.user":                               d.name,
		"database.password":                           d.password,
		"database.dbname":                             u.Path[1:],
		"topic.prefix":                                d.name,
		"plugin.name":                                 "pgoutput",
		"slot.name":                                   d.name,
		"publication.name":                            d.name,
		"publication.autocreate.mode":                 "filtered",
		"table.include.list":                          "public.outbox",
		"column.exclude.list":                         "public.outbox.xact_id",
		"snapshot.mode":                               "no_data",
		"tombstones.on.delete":                        "false",
		"key.converter":                               "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                             "org.apache.kafka.connect.converters.ByteArrayConverter",
		"header.converter":                            "org.apache.kafka.connect.storage.StringConverter",
		"transforms":                                  "outbox",
		"transforms.outbox.type":                      "io.debezium.transforms.outbox.EventRouter",
		"transforms.outbox.table.field.event.id":      "msg_id",
		"transforms.outbox.table.field.event.key":     "aggregate_id",
		"transforms.outbox.table.field.event.type":    "type",
		"transforms.outbox.table.field.event.payload": "payload",
		"transforms.outbox.route.by.field":            "topic",
		"transforms.outbox.route.topic.replacement":   "${routedByValue}",
		"transforms.outbox.table.fields.additional.placement": "type:header:type,aggregate_type:header:aggregate_type,created_at:header:created_at",
	}
	maps.Copy(settings, d.connector)
	return settings, nil
}

// prepare starts a worker, and the connector, whose slot holds from then on what is inserted.
func (d *debeziumContender) prepare(ctx context.Context) (err error) {
	d.running, err = connect.Start(ctx, connect.Options{Bootstrap: d.brokers, Name: d.name, Properties: d.worker})
	if err != nil {
		return err
	}
	// The role of the tests has a password that not every client takes.
	d.password = rand.Text()
	err = execute(ctx, d.url, "CREATE ROLE "+d.name+" LOGIN SUPERUSER PASSWORD '"+d.password+"'")
	if err != nil {
		return err
	}
	settings, err := d.settings()
	if err != nil {
		return err
	}
	if err := d.running.Put(ctx, d.name, settings); err != nil {
		return err
	}
	if err := d.awaitSlot(ctx); err != nil {
		return err
	}
	return d.suspend(ctx)
}

// awaitSlot returns once the connector streams.
func (d *debeziumContender) awaitSlot(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // only asked
	for deadline := time.Now().Add(time.Minute); ; {
		var active bool
		err := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", d.name).Scan(&active)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if active {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("slot %s is not in use", d.name)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (d *debeziumContender) start(ctx context.Context) error   { return d.running.Resume(ctx, d.name) }
func (d *debeziumContender) suspend(ctx context.Context) error { return d.running.Suspend(ctx, d.name) }
func (d *debeziumContender) kill() error                       { return d.running.Kill() }

// revive starts the worker again, which starts its connectors by itself.
func (d *debeziumContender) revive(ctx context.Context) error { return d.running.Launch(ctx) }
func (d *debeziumContender) ids() []int                       { return []int{d.running.ID()} }

// close removes the connector first, because a slot that is in use cannot be dropped.
func (d *debeziumContender) close(ctx context.Context) error {
	if d.running == nil {
		return nil
	}
	err := errors.Join(d.running.Delete(ctx, d.name), d.running.Stop())
	for deadline := time.Now().Add(time.Minute); ; {
		dropping := execute(ctx, d.url, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '"+d.name+"'")
		const inUse = "55006"
		if pg, ok := errors.AsType[*pgconn.PgError](dropping); !ok || pg.Code != inUse || time.Now().After(deadline) {
			return errors.Join(err, dropping)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
