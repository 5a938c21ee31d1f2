package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Coordinators asks the coordinators of transactional ids about their last transactions. It is safe
// for concurrent use.
//
// It finds the coordinators itself and forgets one that gives no answer. franz-go 1.22.2 remembers
// a coordinator until that answers that it is none, which a broker that is dead never does.
type Coordinators struct {
	client *kgo.Client

	mu    sync.Mutex
	nodes map[string]int32 // by transactional id
}

// NewCoordinators asks through a client.
func NewCoordinators(client *kgo.Client) *Coordinators {
	return &Coordinators{client: client, nodes: make(map[string]int32)}
}

// Ask returns what is known of each id. The error says why ids are missing in the answer; those
// that are in it are valid nevertheless.
func (c *Coordinators) Ask(ctx context.Context, ids ...string) (map[string]Coordinated, error) {
	err := c.find(ctx, ids)
	all := make(map[string]Coordinated, len(ids))
	var mu sync.Mutex
	var group sync.WaitGroup
	for node, ids := range c.byNode(ids) {
		group.Go(func() {
			states, failed := c.describe(ctx, node, ids)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(all, states)
			err = errors.Join(err, failed)
		})
	}
	group.Wait()
	if err != nil {
		return all, fmt.Errorf("describe transactions: %w", err)
	}
	return all, nil
}

func (c *Coordinators) byNode(ids []string) map[int32][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := make(map[int32][]string)
	for _, id := range ids {
		if node, ok := c.nodes[id]; ok {
			nodes[node] = append(nodes[node], id)
		}
	}
	return nodes
}

// find learns which brokers are the coordinators of those ids of which that is not known.
func (c *Coordinators) find(ctx context.Context, ids []string) error {
	request := kmsg.NewPtrFindCoordinatorRequest()
	request.CoordinatorType = 1 // of transactions
	c.mu.Lock()
	for _, id := range ids {
		if _, ok := c.nodes[id]; !ok {
			request.CoordinatorKeys = append(request.CoordinatorKeys, id)
		}
	}
	c.mu.Unlock()
	if len(request.CoordinatorKeys) == 0 {
		return nil
	}
	response, err := request.RequestWith(ctx, c.client)
	if err != nil {
		return fmt.Errorf("find the coordinator of %s: %w", request.CoordinatorKeys[0], err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, found := range response.Coordinators {
		if code := kerr.ErrorForCode(found.ErrorCode); code != nil {
			err = errors.Join(err, fmt.Errorf("find the coordinator of %s: %w", found.Key, code))
			continue
		}
		c.nodes[found.Key] = found.NodeID
	}
	return err
}

func (c *Coordinators) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, id)
}

// describe asks one broker about ids of which it was the coordinator.
func (c *Coordinators) describe(ctx context.Context, node int32, ids []string) (map[string]Coordinated, error) {
	request := kmsg.NewPtrDescribeTransactionsRequest()
	request.TransactionalIDs = ids
	answer, err := c.client.Broker(int(node)).Request(ctx, request)
	if err != nil {
		for _, id := range ids {
			c.forget(id)
		}
		return nil, fmt.Errorf("ask broker %d about %s: %w", node, ids[0], err)
	}
	states := make(map[string]Coordinated, len(ids))
	for _, s := range answer.(*kmsg.DescribeTransactionsResponse).TransactionStates {
		switch code := kerr.ErrorForCode(s.ErrorCode); {
		case errors.Is(code, kerr.TransactionalIDNotFound):
			states[s.TransactionalID] = Coordinated{ProducerID: -1}
		case code != nil:
			c.forget(s.TransactionalID)
			err = errors.Join(err, fmt.Errorf("ask broker %d about %s: %w", node, s.TransactionalID, code))
		default:
			states[s.TransactionalID] = coordinated(s)
		}
	}
	for _, id := range ids {
		if _, ok := states[id]; !ok && err == nil {
			err = fmt.Errorf("ask broker %d about %s: %w", node, id, errNoAnswer)
		}
	}
	return states, err
}

func coordinated(s kmsg.DescribeTransactionsResponseTransactionState) Coordinated {
	c := Coordinated{
		State: State(s.State), ProducerID: s.ProducerID, Epoch: s.ProducerEpoch, Partitions: make(Partitions, len(s.Topics)),
	}
	for _, t := range s.Topics {
		c.Partitions[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
	}
	return c
}
