package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/kafkatx"
)

// Deployment is what access depends on.
type Deployment struct {
	// Name of the deployment.
	Name string

	// Lanes are the outbox tables.
	Lanes []relay.Lane

	// Routes are the templates that lead rows without a topic to one.
	Routes []string

	// Topics are further topics that rows name themselves. A trailing * makes a prefix; * alone
	// means every topic.
	Topics []string

	// CreateTopics says that the relay makes topics that do not exist.
	CreateTopics bool

	// CheckpointTopicExists says that somebody else makes the checkpoint topic.
	CheckpointTopicExists bool
}

// The types of resources and patterns, and the operations, in the words of kafka-acls.sh.
const (
	Topic           = "topic"
	Group           = "group"
	TransactionalID = "transactional-id"

	Literal  = "literal"
	Prefixed = "prefixed"

	Read            = "Read"
	Write           = "Write"
	Create          = "Create"
	DescribeConfigs = "DescribeConfigs"
)

// ACL allows one operation on the resources of one pattern.
type ACL struct {
	// Resource is Topic, Group or TransactionalID.
	Resource string `json:"resource_type"`
	// Pattern is Literal or Prefixed.
	Pattern string `json:"pattern_type"`
	// Name is that of the resource, or what their names begin with.
	Name string `json:"name"`
	// Operation is Read, Write, Create or DescribeConfigs.
	Operation string `json:"operation"`
	// Why says what the relay does with it.
	Why string `json:"why"`
}

// SameResource reports whether a and b are about the same resources.
func (a ACL) SameResource(b ACL) bool {
	return a.Resource == b.Resource && a.Pattern == b.Pattern && a.Name == b.Name
}

// ACLs returns what the principal of the relay must be allowed in Kafka, the ACLs of one resource
// one after the other. The error, which has a hint, says which route leads to topics that no
// pattern of Kafka can name.
func (d Deployment) ACLs() ([]ACL, error) {
	patterns, err := d.topics()
	if err != nil {
		return nil, err
	}
	var acls []ACL
	add := func(resource, pattern, name, operation, why string) {
		acls = append(acls, ACL{resource, pattern, name, operation, why})
	}
	for _, p := range patterns {
		add(Topic, p.kind, p.name, Write, "publish events")
		add(Topic, p.kind, p.name, Read, "see that the last transactions are closed on every partition, before their ids are used again")
		add(Topic, p.kind, p.name, DescribeConfigs, "read max.message.bytes, by which batches are cut")
		if d.CreateTopics {
			add(Topic, p.kind, p.name, Create, "make a topic that does not exist (topics.create)")
		}
	}
	checkpoints := checkpoint.TopicName(d.Name)
	add(Topic, Literal, checkpoints, Read, "find the last checkpoint at a takeover")
	add(Topic, Literal, checkpoints, Write, "write the checkpoint of each batch")
	add(Topic, Literal, checkpoints, DescribeConfigs, "see that brokers compact the topic, and delete nothing")
	if !d.CheckpointTopicExists {
		add(Topic, Literal, checkpoints, Create, "make the topic at the first start")
	}
	for _, lane := range d.Lanes {
		add(TransactionalID, Prefixed, ringPrefix(d.Name, lane.Name), Write,
			"run the transactions of lane "+lane.Name+", and fence those of its last owner")
	}
	add(Group, Literal, election.Group(d.Name), Read, "share the lanes among the relays")
	return acls, nil
}

// ringPrefix is what the transactional ids of the lane, and of no other, begin with.
func ringPrefix(name, lane string) string {
	first := kafkatx.TransactionalIDs(name, lane)[0]
	return first[:strings.LastIndexByte(first, '.')+1]
}

// pattern names resources.
type pattern struct{ kind, name string }

// covers reports whether every resource of other is one of p.
func (p pattern) covers(other pattern) bool {
	switch {
	case p == other || p == pattern{Literal, "*"}:
		return true
	case other == pattern{Literal, "*"}:
		return false
	}
	return p.kind == Prefixed && strings.HasPrefix(other.name, p.name)
}

// topics returns the patterns of the topics that events go to, without those that another covers.
func (d Deployment) topics() ([]pattern, error) {
	var all []pattern
	for _, route := range d.Routes {
		before, _, template := strings.Cut(route, "{")
		switch {
		case !template:
			all = append(all, pattern{Literal, route})
		case before != "":
			all = append(all, pattern{Prefixed, before})
		default:
			return nil, hint.New(fmt.Sprintf("route: %s begins with its placeholder, and Kafka has no pattern for topics by their ending", route),
				"--topic NAME for each topic that it leads to, with --without-route; or a route with a prefix, such as events.{aggregate_type}")
		}
	}
	for _, topic := range d.Topics {
		switch prefix, isPrefix := strings.CutSuffix(topic, "*"); {
		case topic == "*" || !isPrefix:
			all = append(all, pattern{Literal, topic})
		default:
			all = append(all, pattern{Prefixed, prefix})
		}
	}
	// The shorter covers the longer.
	slices.SortStableFunc(all, func(a, b pattern) int { return cmp.Compare(len(a.name), len(b.name)) })
	var needed []pattern
	for _, p := range all {
		if !slices.ContainsFunc(needed, func(n pattern) bool { return n.covers(p) }) {
			needed = slices.DeleteFunc(needed, p.covers)
			needed = append(needed, p)
		}
	}
	return needed, nil
}
