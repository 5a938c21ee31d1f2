// Package partitioning chooses the partition of a record by its key, exactly as the common Kafka
// clients do.
//
// Kafka's brokers do not partition: the producer does, and every client library has a default of
// its own. A key that one service sends through the Java client and another through librdkafka
// lands on two different partitions of topics with the same number of partitions. If you join two
// topics, or lets several services write one topic, needs all producers to agree; that is why the
// partitioner has a name here and can be chosen:
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
// The number of partitions is part of the choice. Raising it on a topic that is in use moves most
// keys to another partition, where later records of a key can overtake the earlier ones that still
// wait on the old partition: the order per key is broken until the old records are consumed. Drain
// the topic first, or move to a new one.
package partitioning
