package victim

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// membership writes to standard error who this process is in its group, whenever that changes.
// Tests read it: the protocol tells no other process the generation.
type membership struct {
	mu    sync.Mutex
	made  *kgo.Client // is in the group, or is going to join it
	ended chan struct{}
}

var (
	_ kgo.HookNewClient    = (*membership)(nil)
	_ kgo.HookBrokerWrite  = (*membership)(nil)
	_ kgo.HookClientClosed = (*membership)(nil)
)

// OnNewClient notes the client of the group. It must not be asked yet, because it is being made.
func (m *membership) OnNewClient(client *kgo.Client) {
	if client.OptValue(kgo.ConsumerGroup) == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = client
}

// OnBrokerWrite begins to watch when the client joins.
func (m *membership) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key != int16(kmsg.JoinGroup) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made == nil || m.ended != nil {
		return
	}
	m.ended = make(chan struct{})
	go watch(m.made, m.ended)
}

func watch(client *kgo.Client, ended <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last string
	for {
		id, generation := client.GroupMetadata()
		if now := fmt.Sprintf("member %s generation %d", id, generation); now != last && generation > 0 {
			last = now
			fmt.Fprintln(os.Stderr, now)
		}
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

// OnClientClosed ends the watch.
func (m *membership) OnClientClosed(client *kgo.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if client != m.made || m.ended == nil {
		return
	}
	close(m.ended)
	m.made, m.ended = nil, nil
}
