//go:build unix

package cache

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is in the cache is run as a program. So a folder that somebody else has made or may change
// is refused, and not filled.
func TestAFolderThatOthersMayChangeIsRefused(t *testing.T) {
	fill := func(context.Context, string) error { return nil }
	for name, spoil := range map[string]func(root, entry string) error{
		"others may write to the root":      func(root, _ string) error { return os.Chmod(root, 0o777) },
		"a group may write to the root":     func(root, _ string) error { return os.Chmod(root, 0o775) },
		"others may write to the entry":     func(_, entry string) error { return os.Chmod(entry, 0o777) },
		"the entry is a link to such a one": linkToOpenFolder,
		"the entry is of somebody else":     func(_, entry string) error { return give(entry) },
		"the root is of somebody else":      func(root, _ string) error { return give(root) },
		"the link is of somebody else": func(root, entry string) error {
			if err := os.Rename(entry, entry+".moved"); err != nil {
				return err
			}
			if err := os.Symlink(entry+".moved", entry); err != nil {
				return err
			}
			return give(entry)
		},
	} {
		if os.Geteuid() != 0 && strings.HasSuffix(name, "somebody else") {
			continue // only root can give a folder to somebody else
		}
		root := filepath.Join(t.TempDir(), "root")
		entry, err := folder(t.Context(), root, "entry", fill)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := folder(t.Context(), root, "entry", fill); err != nil || again != entry {
			t.Fatalf("our own entry: %q, %v", again, err)
		}
		if err := spoil(root, entry); err != nil {
			t.Fatal(err)
		}
		if _, err := folder(t.Context(), root, "entry", fill); err == nil || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func give(path string) error { return os.Lchown(path, 65533, 65533) }

func linkToOpenFolder(root, entry string) error {
	open := filepath.Join(root, "open")
	if err := os.Remove(entry); err != nil {
		return err
	}
	if err := os.Mkdir(open, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(open, 0o777); err != nil {
		return err
	}
	return os.Symlink(open, entry)
}

// A link in the place of the lock would make a file wherever it leads.
func TestTheLockFollowsNoLink(t *testing.T) {
	root, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.Symlink(elsewhere, filepath.Join(root, "entry.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := folder(t.Context(), root, "entry", func(context.Context, string) error { return nil }); err == nil {
		t.Error("the lock was taken through a link")
	}
	if _, err := os.Lstat(elsewhere); err == nil {
		t.Error("a file was made where the link leads")
	}
}
