package kafkatx

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// The feature of the cluster that makes a delayed EndTxn harmless: the epoch is raised at each end
// of a transaction (KIP-890). Without it a straggler could end the next transaction of its id.
const (
	transactionFeature = "transaction.version"
	transactionVersion = 2
)

// CheckVersion halts if delayed requests could end later transactions.
func CheckVersion(ctx context.Context, client *kgo.Client) error {
	request := kmsg.NewPtrApiVersionsRequest() // to whichever broker answers: a feature is finalized for the whole cluster
	request.ClientSoftwareName, request.ClientSoftwareVersion = "relay", "1"
	response, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("read the features of the cluster: %w", err)
	}
	finalized := int16(0)
	for _, feature := range response.FinalizedFeatures {
		if feature.Name == transactionFeature {
			finalized = feature.MaxVersionLevel
		}
	}
	if finalized < transactionVersion {
		return checkpoint.Halt("run kafka-features.sh --bootstrap-server … upgrade --feature transaction.version=2 (Apache Kafka 4)",
			"the cluster's %s is %d, and the relay needs %d", transactionFeature, finalized, transactionVersion)
	}
	return nil
}
