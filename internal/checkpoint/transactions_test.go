package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
)

func TestTheCheckpointListsTransactionsInBoundedSpace(t *testing.T) {
	few, many := map[string]struct{}{"b": {}, "a": {}}, make(map[string]struct{})
	for i := range mostTopics + 1 {
		many[fmt.Sprint("topic", i)] = struct{}{}
	}
	last := make(map[int]Transaction)
	for number := range PoolSize {
		topics := few
		if number == 3 {
			topics = many
		}
		last[number] = NewTransaction(number, int64(100+number), int16(number), topics)
	}
	aside := Transaction{Number: 2, ProducerID: 90, Epoch: 9, Topics: []string{"c"}}
	encoded := NewTransactions(last, []Transaction{aside})
	value, err := json.Marshal(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if len(value) > 600 {
		t.Errorf("%d bytes: %s", len(value), value)
	}
	var decoded Transactions
	if err := json.Unmarshal(value, &decoded); err != nil || !decoded.valid() {
		t.Fatalf("%v: %s", err, value)
	}
	equal := func(a, b Transaction) bool {
		return a.Number == b.Number && a.ProducerID == b.ProducerID && a.Epoch == b.Epoch && a.EveryTopic == b.EveryTopic && slices.Equal(a.Topics, b.Topics)
	}
	if got := decoded.ByNumber(); !maps.EqualFunc(got, last, equal) {
		t.Errorf("got %+v, want %+v", got, last)
	}
	if all := decoded.All(); len(all) != PoolSize+1 || !equal(all[PoolSize], aside) {
		t.Errorf("got %+v", all)
	}
	if !decoded.Committed(90, 9) || !decoded.Committed(103, 3) || decoded.Committed(103, 4) || (*Transactions)(nil).Committed(103, 3) {
		t.Error("what was committed is not told from what was not")
	}
	decoded.Last[0].Topics = []int{99}
	if decoded.valid() {
		t.Error("a place outside of the list of topics is taken")
	}
}
