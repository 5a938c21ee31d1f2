// Package partitioning chooses the partition of a record by its key, exactly as the common Kafka
// clients do.
//
// Producers choose the partition, not brokers, and client libraries have different defaults. If one
// service sends a key through the Java client and another through librdkafka, the key lands on two
// partitions. If you join two topics, or several services write one topic, all producers must
// agree. So choose the partitioner by its name:
//
//	murmur2           the Java client, and the clients that follow it (franz-go, kafka-python, KafkaJS)
//	librdkafka        librdkafka's default consistent_random, and with it confluent-kafka-python, -go and -dotnet
//	sarama            Sarama's default NewHashPartitioner; librdkafka calls it fnv1a
//	sarama-reference  Sarama's NewReferenceHashPartitioner
//
// Some clients spread records without a key over all partitions, and librdkafka does so with an
// empty key as well. A record of the outbox always has a key, so nothing here is random: the same
// key and the same number of partitions give the same partition, always.
//
// If you raise the number of partitions of a topic that is in use, most keys move to another
// partition. Later records of a key can then overtake earlier ones that still wait in the old
// partition. So let consumers read the topic to its end first, or move to a new topic.
package partitioning
