package topics

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// IsUnavailable reports whether a produce error speaks of the topic or of its brokers, so that the
// record is good and the topic is to be waited for.
func IsUnavailable(err error) bool {
	for _, cause := range []error{
		kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.NotEnoughReplicas,
		kerr.NotEnoughReplicasAfterAppend, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.PolicyViolation,
		kgo.ErrRecordTimeout, kgo.ErrRecordRetries,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// IsRecordFault reports whether a produce error is about the record itself, not the broker, the
// topic or the permission.
func IsRecordFault(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord)
}
