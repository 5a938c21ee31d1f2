package partitioning_test

import (
	"fmt"

	"github.com/outbox-relay/relay/partitioning"
)

// Which partition a key goes to, depending on the client that the other services of a topic use.
func Example() {
	for _, name := range partitioning.Names() {
		p, err := partitioning.New(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.Name(), p.Partition([]byte("order-100"), 12))
	}
	// Output:
	// murmur2 1
	// librdkafka 1
	// sarama 9
	// sarama-reference 9
}

// A mistyped name is refused with the names there are.
func ExampleNew() {
	_, err := partitioning.New("murmur3")
	fmt.Println(err)
	// Output:
	// unknown partitioner "murmur3": want one of murmur2, librdkafka, sarama, sarama-reference
}
