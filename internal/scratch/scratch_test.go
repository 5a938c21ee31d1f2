package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestAnAbandonedFolderIsRemovedByTheNext(t *testing.T) {
	parent := t.TempDir()
	abandoned, err := New(parent, "relay-")
	if err != nil {
		t.Fatal(err)
	}
	if err := abandoned.lock.Close(); err != nil { // as the kernel does when the maker is killed
		t.Fatal(err)
	}
	held, err := New(parent, "relay-")
	if err != nil {
		t.Fatal(err)
	}
	inTheMaking := filepath.Join(parent, "relay-0")
	otherKind := filepath.Join(parent, "other")
	if err := errors.Join(os.Mkdir(inTheMaking, 0o755), os.Mkdir(otherKind, 0o755)); err != nil {
		t.Fatal(err)
	}
	next, err := New(parent, "relay-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abandoned.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the abandoned folder remains: %v", err)
	}
	for _, path := range []string{held.Path, inTheMaking, otherKind, next.Path} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(held.Remove(), next.Remove(), next.Remove()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(next.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed folder remains: %v", err)
	}
}

func TestAParentThatIsNotThereIsAnError(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "missing"), "relay-"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error: %v, want not exist", err)
	}
}
