package security

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/access"
	"github.com/outbox-relay/relay/internal/checkpoint"
)

// printedAccess is what relay acl prints with the settings, as JSON.
func printedAccess(t testing.TB, settings []string, arguments ...string) (acls []access.ACL, grants []access.Grant) {
	t.Helper()
	r := kit.StartRelay(t, settings, append([]string{"acl", "--output", "json"}, arguments...)...)
	if status := r.Wait(time.Minute); status != 0 {
		t.Fatalf("relay acl ended with status %d", status)
	}
	var printed struct {
		Kafka    []access.ACL
		Postgres []access.Grant
	}
	if err := json.Unmarshal(r.Stdout(), &printed); err != nil {
		t.Fatal(err)
	}
	return printed.Kafka, printed.Postgres
}

// builder turns an ACL into the form of the admin client.
func builder(t testing.TB, acl access.ACL) *kadm.ACLBuilder {
	t.Helper()
	operation, err := kmsg.ParseACLOperation(acl.Operation)
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := kmsg.ParseACLResourcePatternType(acl.Pattern)
	if err != nil {
		t.Fatal(err)
	}
	b := kadm.NewACLs().Allow("User:" + relayUser).AllowHosts().Operations(operation).ResourcePatternType(pattern)
	switch acl.Resource {
	case access.Topic:
		return b.Topics(acl.Name)
	case access.Group:
		return b.Groups(acl.Name)
	case access.TransactionalID:
		return b.TransactionalIDs(acl.Name)
	}
	t.Fatalf("unknown type of resource %q", acl.Resource)
	return nil
}

// allow creates ACLs, and takes them away when the test ends.
func (s *securedKafka) allow(t testing.TB, acls ...access.ACL) {
	t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(t, s.Bootstrap))
	for _, acl := range acls {
		created, err := admin.CreateACLs(t.Context(), builder(t, acl))
		if err != nil || len(created) != 1 || created[0].Err != nil {
			t.Fatalf("create %+v: %v, %+v", acl, err, created)
		}
	}
	t.Cleanup(func() { s.forbid(t, acls...) })
}

func (s *securedKafka) forbid(t testing.TB, acls ...access.ACL) {
	t.Helper()
	admin, err := kadm.NewOptClient(seeds(s.Bootstrap))
	if err != nil {
		t.Error(err)
		return
	}
	defer admin.Close()
	for _, acl := range acls {
		// The test's context has ended.
		if _, err := admin.DeleteACLs(kit.ContextOfCleanup(t), builder(t, acl)); err != nil {
			t.Error(err)
		}
	}
}

// held are the ACLs of the relay on resources whose names hold the text, each as text.
func (s *securedKafka) held(t testing.TB, text string) []string {
	t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(t, s.Bootstrap))
	all := kadm.NewACLs().AnyResource().Allow("User:" + relayUser).AllowHosts().Operations().ResourcePatternType(kadm.ACLPatternAny)
	described, err := admin.DescribeACLs(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, result := range described {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		for _, acl := range result.Described {
			if strings.Contains(acl.Name, text) {
				held = append(held, fmt.Sprint(acl.Type, acl.Pattern, acl.Name, acl.Operation))
			}
		}
	}
	slices.Sort(held)
	return held
}

// awaitHeld waits until the relay holds these ACLs on resources whose names hold the text, and no
// other: a broker learns of them a moment after the controller has confirmed them.
func (s *securedKafka) awaitHeld(t testing.TB, text string, acls []access.ACL) {
	t.Helper()
	want := asText(t, acls)
	var got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the relay held\n%q\nand was to hold\n%q", got, want)
		}
	})
	kit.Eventually(t, 10*time.Second, "the broker knows of the ACLs", func() bool {
		got = s.held(t, text)
		return slices.Equal(got, want)
	})
}

// asText are ACLs in the form of held.
func asText(t testing.TB, acls []access.ACL) []string {
	t.Helper()
	var texts []string
	for _, acl := range acls {
		kind, err := kmsg.ParseACLResourceType(strings.ReplaceAll(acl.Resource, "-", "_"))
		if err != nil {
			t.Fatal(err)
		}
		operation, _ := kmsg.ParseACLOperation(acl.Operation)
		pattern, _ := kmsg.ParseACLResourcePatternType(acl.Pattern)
		texts = append(texts, fmt.Sprint(kind, pattern, acl.Name, operation))
	}
	slices.Sort(texts)
	return texts
}

// complaint is the first line of a log in which the relay says that it is not allowed something.
func complaint(log []byte) string {
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "AUTHORIZATION_FAILED") || strings.Contains(line, "(DescribeConfigs)") {
			return line
		}
	}
	return ""
}

// deployment is the environment of a relay under its own name, with its own topics.
func (s *securedKafka) deployment(t testing.TB, url string) (settings []string, name, topic string) {
	t.Helper()
	name = kit.UniqueName(t)
	settings = append(kit.RelaySettings(t, url, nil,
		"RELAY_NAME="+name, "RELAY_ROUTE="+name+".{aggregate_type}", "RELAY_RETRY_MAX=500ms", "RELAY_LOG_LEVEL=debug"),
		s.asRelay(t, saslListener)...)
	return settings, name, name + ".account"
}

// What relay acl prints, as commands and as JSON alike, is all that the relay may do: it makes its
// topics, publishes, and is taken over from after SIGKILL, over TLS and SCRAM.
func TestTheRelayRunsWithTheACLsThatItPrints(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	url := kit.Database(t)
	settings, name, topic := kafka.deployment(t, url)
	printed, _ := printedAccess(t, settings)
	var commanded []access.ACL
	for _, call := range printedCalls(t, settings) {
		commanded = append(commanded, aclsOfCall(t, call)...)
	}
	kafka.allow(t, commanded...)
	kafka.awaitHeld(t, name, printed)

	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 10 * time.Millisecond})
	relays := []*kit.RelayProcess{kit.StartRelay(t, settings, "run"), kit.StartRelay(t, settings, "run")}
	for range 2 {
		kit.Eventually(t, time.Minute, "a relay publishes", func() bool { return kit.LaneSeq(t, url) > 5 })
		owner, epoch := kit.LaneOwner(t, url)
		victim := kit.OwnerIndex(t, relays, owner)
		seq := kit.LaneSeq(t, url)
		relays[victim].Kill()
		kit.Eventually(t, time.Minute, "the other relay goes on", func() bool {
			_, now := kit.LaneOwner(t, url)
			return now > epoch && kit.LaneSeq(t, url) > seq+5
		})
		if line := complaint(relays[victim].Stderr()); line != "" {
			t.Errorf("not enough: %s", line)
		}
		relays[victim] = kit.StartRelay(t, settings, "run")
	}
	load.Stop()
	kit.AwaitPublished(t, load)
	for _, r := range relays {
		r.Terminate()
		r.Wait(time.Minute)
		if line := complaint(r.Stderr()); line != "" {
			t.Errorf("not enough: %s", line)
		}
	}
	kit.Judge(load.Ledger(t), kit.Everything(t, kafka.Bootstrap, topic)).Require(t)
}

// printedCalls runs the shell script of relay acl with a recorder behind the name kafka-acls.sh,
// and returns the arguments of each call.
func printedCalls(t testing.TB, settings []string) [][]string {
	t.Helper()
	acl := kit.StartRelay(t, settings, "acl", "--only", "kafka")
	if status := acl.Wait(time.Minute); status != 0 {
		t.Fatalf("relay acl ended with status %d", status)
	}
	folder := t.TempDir()
	recorder := "#!/bin/sh\n{ for word; do echo \"$word\"; done; echo; } >> " + filepath.Join(folder, "calls") + "\n"
	if err := os.WriteFile(filepath.Join(folder, "kafka-acls.sh"), []byte(recorder), 0o755); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("sh", "-eu")
	shell.Env = []string{"PATH=" + folder + ":/usr/bin:/bin"}
	shell.Stdin = strings.NewReader(string(acl.Stdout()))
	if output, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	recorded, err := os.ReadFile(filepath.Join(folder, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	var calls [][]string
	for call := range strings.SplitSeq(strings.TrimSpace(string(recorded)), "\n\n") {
		calls = append(calls, strings.Split(call, "\n"))
	}
	return calls
}

// aclsOfCall reads the arguments of kafka-acls.sh as relay acl prints them.
func aclsOfCall(t testing.TB, call []string) []access.ACL {
	t.Helper()
	var acl access.ACL
	var operations []string
	for i := 0; i < len(call); i++ {
		name := call[i]
		if name == "--add" {
			continue
		}
		i++
		switch value := call[i]; name {
		case "--bootstrap-server", "--command-config":
		case "--allow-principal":
			if value != "User:"+relayUser {
				t.Errorf("the principal is %q", value)
			}
		case "--operation":
			operations = append(operations, value)
		case "--resource-pattern-type":
			acl.Pattern = value
		case "--topic", "--group", "--transactional-id":
			acl.Resource, acl.Name = strings.TrimPrefix(name, "--"), value
		default:
			t.Errorf("unknown argument %s", name)
		}
	}
	var acls []access.ACL
	for _, operation := range operations {
		one := acl
		one.Operation = operation
		acls = append(acls, one)
	}
	return acls
}

// Topics that others make need no right to make one: with every topic there, the shorter list is
// enough.
func TestWithTopicsThatExistFewerACLsAreEnough(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	url := kit.Database(t)
	settings, name, topic := kafka.deployment(t, url)
	settings = append(settings, "RELAY_TOPICS_CREATE=false", "RELAY_TOPICS_ALLOW="+name+".other")
	kit.CreateTopic(t, kafka.Bootstrap, topic, 3)
	compact := "compact"
	if _, err := kadm.NewClient(kit.KafkaClient(t, kafka.Bootstrap)).CreateTopic(t.Context(), 1, -1,
		map[string]*string{"cleanup.policy": &compact}, checkpoint.TopicName(name)); err != nil {
		t.Fatal(err)
	}
	printed, _ := printedAccess(t, settings, "--checkpoint-topic-exists", "--without-route", "--topic", topic)
	for _, acl := range printed {
		if acl.Operation == access.Create || acl.Pattern == access.Prefixed && acl.Resource == access.Topic {
			t.Errorf("not needed: %+v", acl)
		}
	}
	kafka.allow(t, printed...)
	kafka.awaitHeld(t, name, printed)
	kit.Execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('account', '1', 'Opened', 'x')")
	r := kit.StartRelay(t, settings, "run")
	kit.Consume(t, kafka.Bootstrap, 1, time.Minute, topic)
	// What was not named is not allowed, and waits.
	kit.Execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('account', '2', 'Opened', '"+name+".other')")
	if line := complaint(r.Stderr()); line != "" && !strings.Contains(line, name+".other") {
		t.Errorf("not enough: %s", line)
	}
	kit.Eventually(t, time.Minute, "the relay misses Write on the other topic", func() bool {
		return strings.Contains(complaint(r.Stderr()), name+".other")
	})
	r.Terminate()
	r.Wait(time.Minute)
}

// With any one of the printed ACLs missing the relay says what it may not do; with it added, it
// goes on by itself.
func TestEveryPrintedACLIsNeeded(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	url := kit.Database(t)
	settings, _, _ := kafka.deployment(t, url)
	printed, _ := printedAccess(t, settings)
	for i := range printed {
		t.Run(strings.Join([]string{printed[i].Operation, printed[i].Resource, fmt.Sprint(i)}, " "), func(t *testing.T) {
			t.Parallel()
			url := kit.Database(t)
			settings, name, topic := kafka.deployment(t, url)
			acls, _ := printedAccess(t, settings)
			missing := acls[i]
			kafka.allow(t, slices.Delete(slices.Clone(acls), i, i+1)...)
			kafka.awaitHeld(t, name, slices.Delete(slices.Clone(acls), i, i+1))
			kit.Execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('account', '1', 'Opened', 'x')")
			r := kit.StartRelay(t, settings, "run")
			kit.Eventually(t, time.Minute, fmt.Sprintf("the relay misses %s on %s %s", missing.Operation, missing.Resource, missing.Name),
				func() bool { return complaint(r.Stderr()) != "" })
			t.Logf("without %s on %s: %s", missing.Operation, missing.Name, strings.TrimSpace(complaint(r.Stderr())))
			kafka.allow(t, missing)
			kit.Consume(t, kafka.Bootstrap, 1, time.Minute, topic)
			r.Terminate()
			if status := r.Wait(time.Minute); status != 0 {
				t.Errorf("SIGTERM ended the relay with status %d", status)
			}
		})
	}
}
