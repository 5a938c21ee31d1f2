package pipeline

import (
	"strings"
	"testing"
)

func TestStepsListsEachStepOnceBeforeAndAfter(t *testing.T) {
	seen := make(map[Step]bool)
	for i, s := range Steps() {
		want := "before-"
		if i%2 == 1 {
			want = "after-"
		}
		if seen[s] || !strings.HasPrefix(string(s), want) {
			t.Errorf("step %d is %q", i, s)
		}
		seen[s] = true
	}
	if len(seen) != 12 {
		t.Errorf("%d steps", len(seen))
	}
}
