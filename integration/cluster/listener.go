package cluster

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
)

// Listener is one more way for clients to reach each broker, beside Bootstrap, which stays in plain
// text without authentication.
type Listener struct {
	// Name of the listener, in capital letters, such as SECURE.
	Name string

	// Protocol is Kafka's word for how clients talk to it: PLAINTEXT, SSL, SASL_PLAINTEXT or
	// SASL_SSL.
	Protocol string

	// Properties are settings of this listener alone, without the prefix listener.name.NAME that
	// Kafka wants.
	Properties map[string]string
}

// Addresses are those of a further listener, HOST:PORT each, in the order of the nodes' ids. It
// panics if the cluster has no listener of that name.
func (c *Cluster) Addresses(listener string) []string {
	for i, l := range c.options.Listeners {
		if l.Name != listener {
			continue
		}
		var addresses []string
		for _, n := range c.nodes {
			addresses = append(addresses, n.further[i])
		}
		return addresses
	}
	panic(fmt.Sprintf("the cluster has no listener %s", listener))
}

// listen gives the node its further listeners on the ports, one each, and adds them to its
// settings.
func (n *node) listen(listeners []Listener, ports []int, settings map[string]string) {
	for i, l := range listeners {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i]))
		n.further = append(n.further, address)
		settings["listeners"] += "," + l.Name + "://" + address
		settings["listener.security.protocol.map"] += "," + l.Name + ":" + l.Protocol
		own := make(map[string]string)
		for name, value := range l.Properties {
			own["listener.name."+strings.ToLower(l.Name)+"."+name] = value
		}
		maps.Copy(settings, own)
	}
}
