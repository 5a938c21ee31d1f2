package topics

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestOutagesAreNoFaultsAndFaultsNoOutages(t *testing.T) {
	for _, err := range []error{kerr.TopicAuthorizationFailed, kerr.NotEnoughReplicas, kgo.ErrRecordTimeout, kerr.UnknownTopicOrPartition} {
		if !IsUnavailable(fmt.Errorf("produce: %w", err)) || IsRecordFault(err) {
			t.Errorf("%v is no outage", err)
		}
	}
	for _, err := range []error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.ProducerFenced, kerr.UnknownServerError} {
		if IsUnavailable(err) {
			t.Errorf("%v is taken for an outage", err)
		}
	}
}

func TestOnlyTheRecordsOwnFaultsCondemnARow(t *testing.T) {
	for _, err := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord} {
		if !IsRecordFault(fmt.Errorf("produce: %w", err)) {
			t.Errorf("%v is no fault of the row", err)
		}
	}
	for _, err := range []error{
		nil, context.DeadlineExceeded, kgo.ErrRecordTimeout, kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.NotLeaderForPartition,
		kerr.NotEnoughReplicas, kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.PolicyViolation, kerr.ThrottlingQuotaExceeded,
	} {
		if IsRecordFault(err) {
			t.Errorf("%v is taken for a fault of the row", err)
		}
	}
}
