//go:build examples

package examples

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/process"
	"github.com/outbox-relay/relay/outbox"
)

// The examples, run as their users run them, killed on the way and fed every message a second time.
// They need a JDK and Maven, and Python with pip.

func TestTheJavaExampleHandlesEachMessageOnce(t *testing.T) {
	folder := copyOf(t, "../../examples/java")
	shell(t, folder, "mvn", "-q", "-B", "compile", "dependency:copy-dependencies", "-DincludeScope=runtime")
	e := startExample(t, func(databaseURL *url.URL, bootstrap, topic string) *exec.Cmd {
		cmd := exec.Command("java", "-cp", "target/classes:target/dependency/*", "Loyalty")
		query := url.Values{"user": {databaseURL.User.Username()}, "sslmode": {"disable"}}
		if password, set := databaseURL.User.Password(); set {
			query.Set("password", password)
		}
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "LOYALTY_BROKERS="+bootstrap, "LOYALTY_TOPIC="+topic,
			"LOYALTY_JDBC_URL=jdbc:postgresql://"+databaseURL.Host+databaseURL.Path+"?"+query.Encode())
		return cmd
	})
	e.judge("loyalty", "SELECT coalesce(sum(points), 0)::bigint FROM loyalty_points", func(o exampleOrder) int64 { return o.Cents / 100 })
}

func TestThePythonExampleHandlesEachMessageOnce(t *testing.T) {
	folder := copyOf(t, "../../examples/python")
	shell(t, folder, "python3", "-m", "venv", ".venv")
	shell(t, folder, ".venv/bin/pip", "install", "--quiet", "--requirement", "requirements.txt")
	e := startExample(t, func(databaseURL *url.URL, bootstrap, topic string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(folder, ".venv/bin/python"), "sales.py")
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "SALES_BROKERS="+bootstrap, "SALES_TOPIC="+topic, "SALES_DATABASE_URL="+databaseURL.String())
		return cmd
	})
	e.judge("sales", "SELECT coalesce(sum(cents), 0)::bigint FROM sales", func(o exampleOrder) int64 { return o.Cents })
}

func TestTheGoExamplesAgreeAfterKillsOnRealServers(t *testing.T) {
	server := kit.MaintenanceURL(t)
	t.Cleanup(func() {
		kit.Execute(t, server, "DROP DATABASE IF EXISTS example_orders WITH (FORCE)")
		kit.Execute(t, server, "DROP DATABASE IF EXISTS example_billing WITH (FORCE)")
	})
	shell(t, "../..", "go", "run", "./examples/run", "--orders", "2000", "--database-url", server, "--brokers", kit.OneBroker(t).BootstrapServers())
}

func copyOf(t *testing.T, folder string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	return to
}

func shell(t *testing.T, folder, name string, arguments ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, arguments...)
	cmd.Dir = folder
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, output)
	}
}

// exampleOrder is the payload of the events of examples/orders.
type exampleOrder struct {
	Order    int64     `json:"order"`
	Customer string    `json:"customer"`
	Cents    int64     `json:"cents"`
	At       time.Time `json:"at"`
}

// example is a consumer in another language at work on its own database.
type example struct {
	t           *testing.T
	command     func() *exec.Cmd
	databaseURL string // of the consumer
	database    *pgx.Conn
	producerURL string // of the orders
	topic       string
	orders      map[int64]exampleOrder // not cancelled
	placed      int64
	events      int
}

// startExample has orders placed and cancelled, and a relay that publishes them.
func startExample(t *testing.T, command func(databaseURL *url.URL, bootstrap, topic string) *exec.Cmd) *example {
	kafka := kit.OneBroker(t)
	e := &example{t: t, databaseURL: kit.EmptyDatabase(t), producerURL: kit.Database(t), orders: make(map[int64]exampleOrder)}
	kit.MigrateInbox(t, e.databaseURL)
	e.database = kit.Connect(t, e.databaseURL)
	route, _ := kit.RouteOf(t)
	e.topic = route[len("RELAY_ROUTE="):len(route)-len("{aggregate_type}")] + "order"
	kit.CreateTopic(t, kafka.Bootstrap, e.topic, 6)
	address, err := url.Parse(e.databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	e.command = func() *exec.Cmd { return command(address, kafka.BootstrapServers(), e.topic) }
	kit.StartRelay(t, kit.RelaySettings(t, e.producerURL, kafka.Bootstrap, route), "run")
	return e
}

// write places orders and cancels some of the earlier ones.
func (e *example) write(orders int) {
	e.t.Helper()
	conn := kit.Connect(e.t, e.producerURL)
	for range orders {
		tx, err := conn.Begin(e.t.Context())
		if err != nil {
			e.t.Fatal(err)
		}
		e.placed++
		o := exampleOrder{e.placed, fmt.Sprint("customer ", rand.IntN(20)), 1 + rand.Int64N(100_000), time.Now()}
		e.tell(tx, "OrderPlaced", o)
		if o.Order%5 == 0 {
			e.tell(tx, "OrderCancelled", o)
		} else {
			e.orders[o.Order] = o
		}
		kit.Commit(e.t, tx)
	}
}

func (e *example) tell(tx pgx.Tx, kind string, o exampleOrder) {
	e.t.Helper()
	payload, err := json.Marshal(o)
	if err == nil {
		_, err = outbox.Insert(e.t.Context(), tx, outbox.Message{
			AggregateType: "order", AggregateID: strconv.FormatInt(o.Order, 10), Type: kind, Payload: payload,
		})
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.events++
}

// start runs the example. It is killed when the test ends.
func (e *example) start() *process.Process {
	e.t.Helper()
	log, err := os.CreateTemp(e.t.TempDir(), "log")
	if err != nil {
		e.t.Fatal(err)
	}
	cmd := e.command()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			e.t.Error(err)
		}
		output, err := os.ReadFile(log.Name())
		if err != nil || log.Close() != nil {
			e.t.Errorf("read the log: %v", err)
		}
		if e.t.Failed() {
			e.t.Logf("the example wrote:\n%s", kit.Tail(output))
		}
	})
	return p
}

// marks is how many messages the example has handled.
func (e *example) marks(consumer string) int {
	e.t.Helper()
	var marks int
	err := e.database.QueryRow(e.t.Context(), "SELECT count(*) FROM inbox WHERE consumer = $1", consumer).Scan(&marks)
	if err != nil {
		e.t.Fatal(err)
	}
	return marks
}

// judge runs the example, kills it, feeds it every message once more, takes its session away, and
// compares its sum.
func (e *example) judge(consumer, sum string, effect func(exampleOrder) int64) {
	e.t.Helper()
	const orders = 2000
	e.write(orders)
	first := e.start()
	kit.Eventually(e.t, time.Minute, "some messages are handled", func() bool { return e.marks(consumer) > orders/10 })
	if err := first.Kill(); err != nil {
		e.t.Fatal(err)
	}
	e.write(orders)
	e.repeat()
	last := e.start()
	// The group waits for the dead member until its session ends: 45 s by default.
	kit.Eventually(e.t, 2*time.Minute, "all messages are handled", func() bool { return e.marks(consumer) == e.events })
	// A session that is ended under the example: the transaction in hand is handled again.
	if _, err := e.database.Exec(e.t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		e.t.Fatal(err)
	}
	e.write(10)
	kit.Eventually(e.t, time.Minute, "messages are handled on a new connection", func() bool { return e.marks(consumer) == e.events })
	e.awaitOffsets(consumer)
	if err := last.Signal(syscall.SIGTERM); err != nil {
		e.t.Fatal(err)
	}
	<-last.Done()
	var want, got int64
	for _, o := range e.orders {
		want += effect(o)
	}
	if err := e.database.QueryRow(e.t.Context(), sum).Scan(&got); err != nil {
		e.t.Fatal(err)
	}
	if got != want || want == 0 {
		e.t.Errorf("the sum of all effects is %d, want %d", got, want)
	}
}

// repeat produces every record of the topic a second time, from outside of the relay.
func (e *example) repeat() {
	e.t.Helper()
	kafka := kit.OneBroker(e.t)
	records := kit.Consume(e.t, kafka.Bootstrap, e.events, time.Minute, e.topic)
	again := make([]*kgo.Record, len(records))
	for i, r := range records {
		again[i] = &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	producer := kit.KafkaClient(e.t, kafka.Bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := producer.ProduceSync(e.t.Context(), again...).FirstErr(); err != nil {
		e.t.Fatal(err)
	}
}

// awaitOffsets waits until the group has committed the end of each partition: every second copy has
// been read too.
func (e *example) awaitOffsets(group string) {
	e.t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(e.t, kit.Brokers(e.t)))
	kit.Eventually(e.t, time.Minute, "the group has committed the ends of the partitions", func() bool {
		// A record has a marker behind it that the group passes only with the next record: what is
		// visible counts.
		lag, err := admin.Lag(e.t.Context(), group)
		if err != nil {
			e.t.Fatal(err)
		}
		total := int64(0)
		for _, partition := range lag[group].Lag[e.topic] {
			total += partition.Lag
		}
		return len(lag[group].Lag[e.topic]) == 6 && total <= 6
	})
}
