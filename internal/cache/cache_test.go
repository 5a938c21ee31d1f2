package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAnEntryIsFilledOnceHoweverManyAskForIt(t *testing.T) {
	root := t.TempDir()
	var fills atomic.Int32
	fill := func(_ context.Context, dir string) error {
		fills.Add(1)
		return os.WriteFile(filepath.Join(dir, "program"), []byte("x"), 0o700)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			dir, err := folder(t.Context(), root, "entry", fill)
			if err != nil {
				t.Error(err)
				return
			}
			info, err := os.Stat(filepath.Join(dir, "program"))
			if err != nil {
				t.Error(err)
				return
			}
			if info.Mode().Perm()&0o055 != 0o055 {
				t.Errorf("mode %v: not for every user to run", info.Mode())
			}
		})
	}
	wait.Wait()
	if fills.Load() != 1 {
		t.Fatalf("filled %d times", fills.Load())
	}
}

func TestAFailedFillLeavesNothingAndIsTriedAgain(t *testing.T) {
	root := t.TempDir()
	broken := errors.New("broken")
	_, err := folder(t.Context(), root, "entry", func(_ context.Context, dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600))
	})
	if !errors.Is(err, broken) {
		t.Fatalf("error %v, want the one of fill", err)
	}
	for _, name := range []string{"entry", "entry.partial"} {
		if exists(filepath.Join(root, name)) {
			t.Errorf("%s remains", name)
		}
	}
	dir, err := folder(t.Context(), root, "entry", func(context.Context, string) error { return nil })
	if err != nil || !exists(dir) {
		t.Fatalf("second try: %q, %v", dir, err)
	}
}

func TestWhatAKilledProcessLeftIsCleared(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "entry.partial", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := folder(t.Context(), root, "entry", func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, "old")) {
		t.Fatal("the entry holds half of an earlier fetch")
	}
}

func TestAWaiterForTheLockEndsWithItsContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, file); !errors.Is(err, context.Canceled) {
		t.Fatalf("lock: %v, want a cancelled context", err)
	}
}

func TestOpenToAllLooksAtEveryFolderAbove(t *testing.T) {
	base := t.TempDir()
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(base, "closed", "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if !OpenToAll(filepath.Join(inner, "not", "there")) {
		t.Fatal("a folder that all may enter is not open")
	}
	if err := os.Chmod(filepath.Join(base, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if OpenToAll(inner) {
		t.Fatal("a folder below a closed one is open")
	}
}
