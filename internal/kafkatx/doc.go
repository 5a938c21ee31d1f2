// Package kafkatx asks Kafka what has become of transactions, and ends those that it has left open.
//
// A coordinator answers a commit once its decision is durable, and writes the markers afterwards. If a partition has no
// leader then, Kafka 4.3.1 leaves its marker out and notes that the transaction is complete (KAFKA-20734). The partition
// holds the transaction open: read_committed readers stand still in front of it, and the next marker of that producer id
// decides it, whatever the coordinator had decided.
package kafkatx
