package usage

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestAFamilyHasTheTimeOfItsChildrenThoseThatEndedToo(t *testing.T) {
	before, err := Family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	if err := exec.Command("sh", "-c", busy).Run(); err != nil {
		t.Fatal(err)
	}
	after, err := Family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if spent := after.Processor - before.Processor; spent < 20*time.Millisecond || after.Processor <= own.Processor {
		t.Errorf("a child that was busy adds %v to its family; the parent alone has %v of %v", spent, own.Processor, after.Processor)
	}
	child := exec.Command("sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }() // it is killed
	defer func() {
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		running, err := Family(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		lone, err := Of(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if running.Processor > after.Processor+50*time.Millisecond && running.Resident > lone.Resident {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a child that runs adds nothing: %+v, alone %+v", running, lone)
		}
	}
}

func TestAProcessThatIsNotThereIsAnError(t *testing.T) {
	if _, err := Of(1 << 30); err == nil {
		t.Error("no error")
	}
	if _, err := Family(1 << 30); err == nil {
		t.Error("no error of a family")
	}
}
