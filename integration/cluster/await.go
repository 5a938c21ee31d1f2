package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// awaitPoll is the pause between two questions to a broker that is starting.
const awaitPoll = 50 * time.Millisecond

// await waits until each of the nodes answers and lists all of them: a broker listens long before
// it takes part.
func (c *Cluster) await(ctx context.Context, nodes []*node) error {
	for _, n := range nodes {
		if err := n.await(ctx, len(nodes)); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) await(ctx context.Context, brokers int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(n.address), kgo.RequestRetries(0))
	if err != nil {
		return fmt.Errorf("make client of node %d: %w", n.id, err)
	}
	defer client.Close()
	for {
		err := n.lists(ctx, client, brokers)
		if err == nil {
			return nil
		}
		select {
		case <-n.process.Done():
			err := fmt.Errorf("node %d ended with status %d\n%s", n.id, n.process.ExitCode(), n.logTail())
			if n.portWasTaken() {
				return errors.Join(errPortTaken, err)
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("node %d does not answer: %w: %w\n%s", n.id, ctx.Err(), err, n.logTail())
		case <-time.After(awaitPoll):
		}
	}
}

// lists asks the node itself for the brokers of the cluster.
func (n *node) lists(ctx context.Context, client *kgo.Client, brokers int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none
	response, err := request.RequestWith(ctx, client.SeedBrokers()[0])
	if err != nil {
		return err
	}
	if len(response.Brokers) < brokers {
		return fmt.Errorf("it lists %d of %d brokers", len(response.Brokers), brokers)
	}
	return nil
}
